from pathlib import Path

from sovereign_node.api.reference import reference


def test_openapi_file_is_up_to_date() -> None:
    written = Path(__file__).parents[3] / "docs" / "api" / "openapi.json"
    assert written.read_text() == reference(), "run: python -m sovereign_node.api.reference > docs/api/openapi.json"

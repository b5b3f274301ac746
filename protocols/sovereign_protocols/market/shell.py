"""The client of the market.

Source: protocols/specs/market.md.
"""

from sovereign_protocols.errors import ErrorCode, RemoteProtocolError
from sovereign_protocols.market import messages as m
from sovereign_protocols.market.acts import SignedAct, parse_act
from sovereign_protocols.market.offer import SignedOffer, parse_offer
from sovereign_protocols.market.terms import Agreement, SignedTerms, agree, parse_terms
from sovereign_protocols.requests.shell import RequestClient


class MarketClient(RequestClient):
    """Asks one provider; use `open_client`."""

    PROTOCOL = m.PROTOCOL

    async def offer(self) -> SignedOffer:
        """Ask for the current offer.

        Raises:
            RefusedError: the provider offers nothing.
            RemoteProtocolError: the offer is not the provider's.
        """
        answer = await self._ask(m.OfferQuery(), m.OfferAnswer)
        signed = parse_offer(answer.offer, self._network_id)
        if (signed.offer.identity, signed.offer.device) != (self.peer.identity, self.peer.device):
            raise RemoteProtocolError(ErrorCode.IDENTITY, "the offer of another provider")
        return signed

    async def propose(self, signed: SignedTerms) -> Agreement:
        """Propose a contract; repeating the same terms gives the same answer.

        Args:
            signed: by this side, the customer.

        Returns:
            The terms with both signatures.

        Raises:
            RefusedError: with the provider's reason.
        """
        return await self._agree(m.Propose(signed.raw), signed)

    async def amend(self, signed: SignedTerms) -> Agreement:
        """Propose the next revision of a contract; the one in force stays until both signed.

        Raises:
            RefusedError: with the provider's reason.
        """
        return await self._agree(m.Amend(signed.raw), signed)

    async def _agree(self, request: m.Message, signed: SignedTerms) -> Agreement:
        answer = await self._ask(request, m.Accept)
        return agree(signed, parse_terms(answer.terms, self._network_id))

    async def notice(self, signed: SignedAct) -> None:
        """Hand in a notice; returns when the provider has stored it.

        Raises:
            RefusedError: with the provider's reason.
        """
        answer = await self._ask(m.Notice(signed.raw), m.NoticeKept)
        if answer.hash != signed.statement_hash:
            raise RemoteProtocolError(ErrorCode.UNEXPECTED, "the provider kept another notice")

    async def close(self, signed: SignedAct) -> SignedAct:
        """Close a contract.

        Returns:
            The close with the provider's signature.

        Raises:
            RefusedError: with the provider's reason.
        """
        answer = await self._ask(m.Close(signed.raw), m.Closed)
        closed = parse_act(answer.act, self._network_id)
        if closed.content_hash != signed.content_hash or closed.signer != self.peer.device:
            raise RemoteProtocolError(ErrorCode.SIGNATURE, "the provider signed something else")
        return closed

    async def latest_state(self, contract_id: bytes) -> m.LatestState:
        """Ask for everything that must be known after losing the own database.

        Raises:
            RefusedError: the contract is not the caller's.
        """
        return await self._ask(m.StateQuery(contract_id), m.LatestState)

    async def contracts(self) -> list[tuple[str, Agreement]]:
        """Ask for all contracts of the own identity.

        Returns:
            State and agreement of each.
        """
        found: list[tuple[str, Agreement]] = []
        after, more = bytes(32), True
        while more:
            page = await self._ask(m.ListQuery(after), m.ContractList)
            for contract_id, state, customer_raw, provider_raw in page.items:
                customer = parse_terms(customer_raw, self._network_id)
                agreement = agree(customer, parse_terms(provider_raw, self._network_id))
                if agreement.contract_id != contract_id or contract_id <= after:
                    raise RemoteProtocolError(ErrorCode.UNEXPECTED, "the list is out of order")
                after = contract_id
                found.append((state, agreement))
            more = page.more and bool(page.items)
        return found

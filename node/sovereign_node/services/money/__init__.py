"""Money by itself: metering, receipts, vouchers, statements, overdue payments, renewal.

A *meter* counts what a contract holds and moves. The provider's meter follows the counters of its chunk store and
signs a *receipt* for every change; the customer's meter follows the receipts, and its *tally* of what it sent and
received itself says whether they can be true. A *turn* is one conversation between a customer's device and a
provider: receipts, report, statement, voucher. `Money` runs all of it; the wallet reads what it wrote.
"""

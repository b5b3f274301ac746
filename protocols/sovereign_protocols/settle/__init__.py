"""Metering and paying: receipts, reports, vouchers, statements.

A *meter* counts byte-seconds and moved bytes in O(1). A *receipt* is the provider's signature under what it stores.
A *voucher* is the customer's promise on one *lane* (one device in one contract), cumulative, so only the newest
counts. A *statement* closes a period and is signed by both. *Exposure* is what is used and not yet vouchered.
"""

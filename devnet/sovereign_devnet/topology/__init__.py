"""Test networks of several hosts on one machine: network namespaces, routers that translate addresses, bad cables.

*Host*: a network namespace in which nodes run. *Segment*: a bridge to which hosts and routers are plugged.
*Cable*: a link whose delay, loss and state can be changed while it is used. *Home*: hosts behind a router.

Root is needed. Nothing here has a route to the outside: addresses that look public exist only inside.
"""

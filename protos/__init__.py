"""Everything both sides must agree on, and nothing else.

Compatibility: field numbers and document fields are only ever added. A reader ignores what it does
not know; a bundle that an older agent must not run says so in ``minimum_agent``.

To add an RPC:

1. Its messages and the ``rpc`` in ``protos/v1/*.proto``; ``make protos``.
2. One row in ``protos/methods.py``.
3. The device's side: one function in ``agent/transport/controller_client.py``.
4. The controller's side: one action in a feature's ``actions.py``, one row in
   ``controller/transport/dispatch.py``.
5. The contract suite ``tests/contracts/test_link.py`` is green for every transport.
"""

"""The ledger: the schema, the write API in SQL and its typed Python front. The only writer of balances."""

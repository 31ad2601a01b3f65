"""What is remembered: keys, edits, drafts, versions, runs, the outbox and the ledger of erasures, in one SQL database."""

-- Behaviour of wallets: classes by the transactions that a wallet sent.

CREATE TABLE behaviour_windows (
    network    text PRIMARY KEY CHECK (network <> ''),
    until      date NOT NULL,
    rules      jsonb NOT NULL,
    updated_at timestamptz NOT NULL DEFAULT now()
);
COMMENT ON TABLE behaviour_windows IS 'last day and rules by which the wallets of a network were classified';

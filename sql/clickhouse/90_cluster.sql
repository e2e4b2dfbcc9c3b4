{distributed transaction_events}

{distributed received_transactions}

{distributed aggregate_generations}

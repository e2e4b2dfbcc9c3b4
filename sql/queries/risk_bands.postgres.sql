SELECT latest.band, latest.state, count(*) AS wallets
  FROM (SELECT DISTINCT ON (h.address) h.band, h.state
          FROM arx.risk_score_history AS h
         WHERE h.network = $1
         ORDER BY h.address, h.scored_at DESC, h.entry_id DESC) AS latest
 GROUP BY latest.band, latest.state
 ORDER BY count(*) DESC, latest.band, latest.state

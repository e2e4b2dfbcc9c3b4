WITH dealing AS MATERIALIZED (
    SELECT t.to_address AS peer, true AS sent, t.value, t."timestamp" AS at
      FROM arx.transactions AS t
     WHERE t.from_address = $1 AND t.network = 'ethereum' AND t.status <> 'failed' AND t.to_address <> $1
    UNION ALL
    SELECT t.from_address, false, t.value, t."timestamp"
      FROM arx.transactions AS t
     WHERE t.to_address = $1 AND t.network = 'ethereum' AND t.status <> 'failed' AND t.from_address <> $1
), peer AS MATERIALIZED (
    SELECT d.peer, sum(d.value) FILTER (WHERE d.sent) AS sent, sum(d.value) FILTER (WHERE NOT d.sent) AS received
      FROM dealing AS d GROUP BY d.peer
), contacts AS MATERIALIZED (
    -- A counterparty with a thousand contacts is a hub, and more are not counted.
    SELECT p.peer, p.sent, p.received, i.fan_in, o.fan_out, coalesce(i.illicit, false) AS paid_by_illicit,
           coalesce(o.illicit, false) AS paying_illicit,
           EXISTS (SELECT FROM arx.address_labels AS l JOIN arx.label_categories AS c USING (category)
                    WHERE l.address = p.peer AND l.network = 'ethereum' AND c.kind = 'illicit') AS illicit
      FROM peer AS p
     CROSS JOIN LATERAL (
           SELECT count(*) AS fan_in,
                  bool_or(EXISTS (SELECT FROM arx.address_labels AS l JOIN arx.label_categories AS c USING (category)
                                   WHERE l.address = s.other AND l.network = 'ethereum' AND c.kind = 'illicit'))
                      AS illicit
             FROM (SELECT DISTINCT t.from_address AS other FROM arx.transactions AS t
                    WHERE t.to_address = p.peer AND t.network = 'ethereum' LIMIT 1000) AS s) AS i
     CROSS JOIN LATERAL (
           SELECT count(*) AS fan_out,
                  bool_or(EXISTS (SELECT FROM arx.address_labels AS l JOIN arx.label_categories AS c USING (category)
                                   WHERE l.address = s.other AND l.network = 'ethereum' AND c.kind = 'illicit'))
                      AS illicit
             FROM (SELECT DISTINCT t.to_address AS other FROM arx.transactions AS t
                    WHERE t.from_address = p.peer AND t.network = 'ethereum' AND t.to_address IS NOT NULL LIMIT 1000) AS s) AS o
)
SELECT d.transfers, d.lifetime::double precision, c.senders, c.receivers
  FROM (SELECT count(*) AS transfers, sum(d.value) FILTER (WHERE d.sent) AS sent,
               sum(d.value) FILTER (WHERE NOT d.sent) AS received, extract(epoch FROM max(d.at) - min(d.at)) AS lifetime,
               extract(epoch FROM max(d.at) - min(d.at)) / nullif(count(*) - 1, 0) AS mean_gap
          FROM dealing AS d) AS d
 CROSS JOIN (SELECT count(*) FILTER (WHERE c.received IS NOT NULL) AS senders,
                    count(*) FILTER (WHERE c.sent IS NOT NULL) AS receivers,
                    sum(c.received) FILTER (WHERE c.illicit) AS illicit_received,
                    sum(c.sent) FILTER (WHERE c.illicit) AS illicit_sent,
                    count(*) FILTER (WHERE c.paying_illicit AND c.received IS NOT NULL) AS paying_illicit,
                    count(*) FILTER (WHERE c.paid_by_illicit AND c.sent IS NOT NULL) AS paid_by_illicit,
                    avg(ln(1 + c.fan_in)) AS fan_in, avg(ln(1 + c.fan_out)) AS fan_out
               FROM contacts AS c) AS c

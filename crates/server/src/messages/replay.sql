-- Earlier messages of a topic of private channels, newest first. The index is for them alone, and so
-- the condition must stand here as it stands there; for public channels it is replaced.
-- $1 the topic, $2 ms since 1970, $3 how many at most.
--
-- The messages of one transaction share inserted_at, the moment it began, and their ids are random.
-- Their order is that of their commands, and within one command that of their places in the table:
-- places alone are not enough, since PostgreSQL fills gaps that older rows left.
select
    message.id::text as id,
    message.event,
    message.payload::text as payload,
    message.binary_payload
from realtime.messages as message
where message.topic = $1
    and message.private is true
    and message.extension = 'broadcast'
    and message.inserted_at >= timezone('UTC', to_timestamp($2::bigint / 1000.0::double precision))
    and message.inserted_at < timezone('UTC', clock_timestamp()) + interval '1 minute'
    and message.event is not null
    and (message.payload is not null or message.binary_payload is not null)
order by message.inserted_at desc, message.cmin::text::bigint desc, message.tableoid desc, message.ctid desc
limit $3

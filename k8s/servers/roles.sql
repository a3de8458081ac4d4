-- The users of PostgreSQL that the processes have, each with its own password from the environment.
-- `flashsale migrate`, as the owner of the tables, gives them their rights: see docs/reference/rights.md.
-- psql "$OWNERS_URL" -f roles.sql
\getenv api API_PASSWORD
\getenv worker WORKER_PASSWORD
\getenv ops OPS_PASSWORD
CREATE ROLE flashsale_api LOGIN PASSWORD :'api';
CREATE ROLE flashsale_worker LOGIN PASSWORD :'worker';
CREATE ROLE flashsale_ops LOGIN PASSWORD :'ops';

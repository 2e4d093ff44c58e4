-- The sample's two roles: the application's, and the one pgring watches and repairs with.
-- The second is no superuser, so that a missing privilege shows here first.
CREATE ROLE app LOGIN PASSWORD 'app';
CREATE ROLE pgring LOGIN PASSWORD 'pgring' IN ROLE pg_monitor, pg_signal_backend;

-- The sample's two roles: the application's, and the one pgring watches and repairs with.
-- The second is no superuser, so that a missing privilege shows here first. It is a member of the first
-- to finish what that has left prepared.
CREATE ROLE app LOGIN PASSWORD 'app';
CREATE ROLE pgring LOGIN PASSWORD 'pgring' IN ROLE app, pg_monitor, pg_signal_backend;

-- Records who owned the event log, and who wrote to it. The times are those of the commits (track_commit_timestamp).
CREATE SCHEMA harness;
CREATE TABLE harness.terms (number bigserial PRIMARY KEY, node text);
CREATE TABLE harness.writes (number bigserial PRIMARY KEY, first bigint, last bigint, port int);
-- It expires: a server that is promoted during a pause has a copy of it, and would otherwise keep it.
CREATE TABLE harness.pause (seconds float8 NOT NULL, ends timestamptz NOT NULL);
INSERT INTO harness.pause VALUES (0, '-infinity');

CREATE FUNCTION harness.note_term() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$
BEGIN
    IF new.term IS DISTINCT FROM old.term OR new.node IS DISTINCT FROM old.node THEN
        INSERT INTO harness.terms (node) VALUES (new.node::text);
    END IF;
    RETURN NULL;
END $$;

-- The pause is after the fence and before the commit.
CREATE FUNCTION harness.note_write() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$
DECLARE
    pause float8;
BEGIN
    INSERT INTO harness.writes (first, last, port)
        SELECT min(seq), max(seq), inet_client_port() FROM written HAVING count(*) > 0;
    SELECT seconds INTO pause FROM harness.pause WHERE clock_timestamp() < ends;
    IF FOUND THEN
        PERFORM pg_sleep(pause);
    END IF;
    RETURN NULL;
END $$;

CREATE TRIGGER note_write AFTER INSERT ON liveobject_0.events REFERENCING NEW TABLE AS written
    FOR EACH STATEMENT EXECUTE FUNCTION harness.note_write();
DO $$
BEGIN
    IF to_regclass('liveobject_0.owner') IS NOT NULL THEN
        CREATE TRIGGER note_term AFTER UPDATE ON liveobject_0.owner
            FOR EACH ROW EXECUTE FUNCTION harness.note_term();
        INSERT INTO harness.terms (node) SELECT node::text FROM liveobject_0.owner;
    END IF;
END $$;

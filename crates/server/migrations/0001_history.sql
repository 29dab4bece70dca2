-- The same statements for SQLite and PostgreSQL, so only what both understand: BIGINT and TEXT. Times are milliseconds
-- since the epoch; what is only ever shown is one JSON text. There are no foreign keys: an entry that got lost must not
-- keep the next ones from being recorded.

CREATE TABLE clients (
    id TEXT NOT NULL PRIMARY KEY,
    server TEXT NOT NULL,
    name TEXT,
    user_agent TEXT,
    address TEXT,
    since BIGINT NOT NULL,
    ended BIGINT,
    state TEXT NOT NULL,
    data TEXT NOT NULL
);
CREATE INDEX clients_since ON clients (since);
CREATE INDEX clients_ended ON clients (ended);

CREATE TABLE samples (
    client TEXT NOT NULL,
    at BIGINT NOT NULL,
    data TEXT NOT NULL
);
CREATE INDEX samples_client_at ON samples (client, at);
CREATE INDEX samples_at ON samples (at);

CREATE TABLE changes (
    client TEXT NOT NULL,
    at BIGINT NOT NULL,
    author TEXT NOT NULL,
    class TEXT,
    options_before TEXT NOT NULL,
    options_after TEXT NOT NULL,
    reason TEXT
);
CREATE INDEX changes_client_at ON changes (client, at);
CREATE INDEX changes_at ON changes (at);

CREATE TABLE measurements (
    id TEXT NOT NULL PRIMARY KEY,
    client TEXT NOT NULL,
    kind TEXT NOT NULL,
    state TEXT NOT NULL,
    started BIGINT NOT NULL,
    ended BIGINT,
    config TEXT NOT NULL,
    error TEXT,
    report TEXT
);
CREATE INDEX measurements_client_started ON measurements (client, started);
CREATE INDEX measurements_ended ON measurements (ended);

CREATE TABLE measurement_rows (
    measurement TEXT NOT NULL,
    name TEXT NOT NULL,
    at BIGINT NOT NULL,
    data TEXT NOT NULL,
    PRIMARY KEY (measurement, name)
);

CREATE TABLE audit (
    at BIGINT NOT NULL,
    author TEXT NOT NULL,
    address TEXT,
    action TEXT NOT NULL,
    client TEXT,
    detail TEXT NOT NULL
);
CREATE INDEX audit_at ON audit (at);

-- How many bytes were recorded about each minute, so that retention by size need not look at them all. By server, so
-- that those that share a database do not wait for each other.
CREATE TABLE volume (
    server TEXT NOT NULL,
    minute BIGINT NOT NULL,
    bytes BIGINT NOT NULL,
    PRIMARY KEY (server, minute)
);

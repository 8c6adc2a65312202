//! Opening databases on a server: the faults, and that only one service can use a database.

use std::path::Path;

use liveobject_test_support::{Authority, CertificateSpec, Postgres, PostgresOptions, free_port, wait_until};
use sea_orm::ConnectionTrait as _;

use super::*;
use crate::{
    domain::ids::{EventId, Seq},
    store::StoreError,
    testing::database::TestDatabase,
};

async fn open(url: &str, access: Access) -> Result<Store, OpenError> {
    Store::open(&crate::store::Location::parse(url)?, access).await
}

/// Returns the fault with which a service cannot open the database. The error names the database, not the password.
async fn fault(url: &str) -> ServerFault {
    let error = open(url, Access::Service).await.unwrap_err();
    let text = error.to_string();
    assert!(text.starts_with("the database ") && !text.contains("hunter2"), "{text}");
    match error {
        OpenError::Server { fault, .. } => fault,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_database_on_a_server_is_created_once_and_only_by_a_service() {
    let database = TestDatabase::postgres();
    let refused = database.try_open(Access::Command).await.unwrap_err();
    assert!(matches!(&refused, OpenError::Server { fault: ServerFault::Older, .. }), "{refused:?}");
    let store = database.open().await;
    assert_eq!((store.path(), store.size()), (None, None));
    store.execute("INSERT INTO deliveries (up_to_seq, acked_at) VALUES (7, 1)").await.unwrap();
    let command = database.try_open(Access::Command).await.unwrap();
    assert_eq!(command.cursor().await.unwrap(), Seq(7));
    command.close().await;
    store.close().await;
    let again = database.open().await;
    assert_eq!(again.last_seq().await.unwrap(), Seq(7));
    assert!(again.read.execute_unprepared("DELETE FROM deliveries").await.is_err(), "readers cannot write");
    again.close().await;
}

#[tokio::test]
async fn a_second_service_ends_the_term_of_the_first_one() {
    let server = Postgres::shared();
    let url = server.url(&server.create_database());
    let first = open(&url, Access::Service).await.unwrap();
    first.execute(INSERT).await.unwrap();
    let second = open(&url, Access::Service).await.unwrap();
    assert!(matches!(first.execute(INSERT).await, Err(StoreError::NotOwner)));
    second.execute("DELETE FROM deliveries").await.unwrap();
    first.close().await;
    second.execute(INSERT).await.unwrap();
    second.close().await;
}

/// Selects the session that writes with the current term.
const HOLDER: &str = "SELECT pid FROM pg_locks WHERE locktype = 'advisory' AND mode = 'ExclusiveLock' AND granted \
    AND database = (SELECT oid FROM pg_database WHERE datname = current_database())";
const INSERT: &str = "INSERT INTO deliveries (up_to_seq, acked_at) VALUES (1, 1)";

#[tokio::test]
async fn an_idle_connection_that_was_lost_is_replaced_before_it_is_used() {
    let server = Postgres::shared();
    let name = server.create_database();
    let store = open(&server.url(&name), Access::Service).await.unwrap();
    server.execute(&name, &format!("SELECT pg_terminate_backend(pid) FROM ({HOLDER}) holder"));
    sleep(held::TEST_AFTER + Duration::from_millis(100)).await;
    store.execute(INSERT).await.unwrap();
    store.close().await;
}

#[tokio::test]
async fn a_server_is_verified_and_a_large_commit_arrives_over_tls() {
    let port = free_port();
    let server = Postgres::start(&PostgresOptions { port: Some(port), ..PostgresOptions::default() });
    let authority = Authority::new("database");
    server.serve_tls(&authority.issue(&CertificateSpec::server(&["127.0.0.1"])));
    let dir = tempfile::tempdir().unwrap();
    let (file, other) = (dir.path().join("ca.pem"), dir.path().join("other.pem"));
    std::fs::write(&file, authority.pem()).unwrap();
    std::fs::write(&other, Authority::new("other").pem()).unwrap();
    let name = server.create_database();
    let url = |host: &str, file: &Path| {
        let options = format!("sslmode=verify-full&sslrootcert={}", file.display());
        format!("postgres://postgres@{host}:{port}/{name}?{options}")
    };
    assert_eq!(fault(&url("127.0.0.1", &other)).await, ServerFault::Tls);
    assert_eq!(fault(&url("localhost", &file)).await, ServerFault::Tls, "the certificate is for an address");

    let store = open(&url("127.0.0.1", &file), Access::Service).await.unwrap();
    let encrypted = "SELECT count(*) FROM pg_stat_ssl JOIN pg_locks USING (pid) WHERE ssl AND locktype = 'advisory' \
        AND mode = 'ExclusiveLock'";
    assert_eq!(server.execute(&name, encrypted), "1");
    let large = "x".repeat(1_000_000);
    store.execute(&format!("{INSERT} -- {large}")).await.unwrap();
    server.execute(&name, &format!("SELECT pg_terminate_backend(pid) FROM ({HOLDER}) holder"));
    sleep(held::TEST_AFTER + Duration::from_millis(100)).await;
    store.execute("DELETE FROM deliveries").await.unwrap();
    // A connection that is dropped in the middle of a transaction ends it.
    let transaction = store.begin().await.unwrap();
    transaction.execute_unprepared(INSERT).await.unwrap();
    drop(transaction);
    store.close().await;
    let sessions = format!("SELECT count(*) FROM pg_stat_activity WHERE datname = '{name}'");
    wait_until("the server has noticed the end", Duration::from_secs(20), async || {
        server.execute("postgres", &sessions) == "0"
    })
    .await;
    assert_eq!(server.execute(&name, "SELECT count(*) FROM liveobject_0.deliveries"), "0");
}

#[tokio::test]
async fn what_prevents_a_login_is_reported() {
    let access = "host all all 127.0.0.1/32 scram-sha-256".to_owned();
    let port = free_port();
    let options = PostgresOptions { port: Some(port), access: Some(access), ..PostgresOptions::default() };
    let server = Postgres::start(&options);
    for statement in
        ["CREATE ROLE u LOGIN PASSWORD 'hunter2'", "CREATE DATABASE d TEMPLATE template0 ENCODING UTF8"]
    {
        server.execute("postgres", statement);
    }
    let at = |rest: &str| format!("postgres://u:hunter2@127.0.0.1:{port}/{rest}");
    assert_eq!(fault(&format!("postgres://u:hunter2x@127.0.0.1:{port}/d")).await, ServerFault::Login);
    assert_eq!(fault(&format!("postgres://u@127.0.0.1:{port}/d")).await, ServerFault::Login);
    assert_eq!(fault(&format!("postgres://x:hunter2@127.0.0.1:{port}/d")).await, ServerFault::Login);
    assert_eq!(fault(&at("e")).await, ServerFault::Missing);
    assert_eq!(fault(&at("d?sslmode=verify-full")).await, ServerFault::Tls);
    let closed = format!("postgres://u:hunter2@127.0.0.1:{}/d", free_port());
    assert_eq!(fault(&closed).await, ServerFault::Unreachable);
    assert_eq!(fault(&at("d")).await, ServerFault::NotPermitted(SHARED));
    server.execute("postgres", "GRANT CREATE ON DATABASE d TO u");
    open(&at("d"), Access::Service).await.unwrap().close().await;
    server.execute("postgres", "REVOKE CREATE ON DATABASE d FROM u");
    open(&at("d"), Access::Service).await.unwrap().close().await;
    server.execute("postgres", "ALTER ROLE u SET default_transaction_read_only = on");
    assert_eq!(fault(&at("d")).await, ServerFault::ReadOnly);
    server.execute("postgres", "ALTER ROLE u RESET default_transaction_read_only");
    server.execute("postgres", "ALTER ROLE u CONNECTION LIMIT 0");
    assert_eq!(fault(&at("d")).await, ServerFault::TooManyConnections);
}

#[tokio::test]
async fn an_unsuitable_database_is_refused_and_not_changed() {
    let server = Postgres::shared();
    server.execute("postgres", "CREATE DATABASE latin TEMPLATE template0 ENCODING LATIN1 LOCALE 'C'");
    assert_eq!(fault(&server.url("latin")).await, ServerFault::Encoding("LATIN1".to_owned()));
    let schemas = "SELECT count(*) FROM pg_namespace WHERE nspname LIKE 'liveobject%'";
    assert_eq!(server.execute("latin", schemas), "0");

    let name = server.create_database();
    let url = server.url(&name);
    open(&url, Access::Service).await.unwrap().close().await;
    let newer = "INSERT INTO liveobject_0.seaql_migrations VALUES ('m20990101_000001_flying_cameras', 0)";
    server.execute(&name, newer);
    let unknown = vec!["m20990101_000001_flying_cameras".to_owned()];
    assert_eq!(fault(&url).await, ServerFault::Newer(unknown.clone()));
    let refused = open(&url, Access::Command).await.unwrap_err();
    assert!(matches!(refused, OpenError::Server { fault: ServerFault::Newer(_), .. }), "{refused:?}");
    server.execute(&name, "DELETE FROM liveobject_0.seaql_migrations WHERE version LIKE '%flying%'");
    open(&url, Access::Service).await.unwrap().close().await;
}

#[tokio::test]
async fn a_session_has_its_own_settings_whatever_the_server_prefers() {
    let server = Postgres::shared();
    for (given, expected) in [("off", "on"), ("local", "on"), ("remote_apply", "remote_apply")] {
        let name = server.create_database();
        server.execute("postgres", &format!("ALTER DATABASE {name} SET synchronous_commit = {given}"));
        server.execute("postgres", &format!("ALTER DATABASE {name} SET statement_timeout = '1s'"));
        server.execute("postgres", &format!("ALTER DATABASE {name} SET idle_session_timeout = '1s'"));
        let store = open(&server.url(&name), Access::Service).await.unwrap();
        let names = ["synchronous_commit", "statement_timeout", "idle_session_timeout", "jit"];
        assert_eq!(settings(&store, &names).await, format!("{expected} 0 0 off"), "{given}");
        store.close().await;
    }
}

/// Returns these settings of the writing session, separated by spaces.
async fn settings(store: &Store, names: &[&str]) -> String {
    let settings: Vec<_> = names.iter().map(|name| format!("current_setting('{name}')")).collect();
    let sql = format!("SELECT concat_ws(' ', {})", settings.join(", "));
    let row = store.write.query_one_raw(crate::store::dialect::statement(&store.write, sql, [])).await;
    row.unwrap().unwrap().try_get_by_index(0).unwrap()
}

#[tokio::test]
async fn the_server_notices_soon_that_a_machine_is_gone() {
    let port = free_port();
    let access = Some("host all all 127.0.0.1/32 trust".to_owned());
    let options = PostgresOptions { port: Some(port), access, ..PostgresOptions::default() };
    let _server = Postgres::start(&options);
    let url = format!("postgres://postgres@127.0.0.1:{port}/postgres");
    let store = open(&url, Access::Service).await.unwrap();
    let names = ["idle", "interval", "count"].map(|name| format!("tcp_keepalives_{name}"));
    let names: Vec<_> = names.iter().map(String::as_str).collect();
    assert_eq!(settings(&store, &names).await, "5 2 3");
    store.close().await;
}

#[tokio::test]
async fn a_query_that_is_given_up_does_not_occupy_a_connection() {
    let store = TestDatabase::postgres().open().await;
    for _ in 0..MAX_READERS {
        let query = crate::store::dialect::statement(&store.read, "SELECT pg_sleep(60)", []);
        let given_up = timeout(Duration::from_millis(300), store.read.query_all_raw(query)).await;
        assert!(given_up.is_err(), "the server is busy");
    }
    store.last_seq().await.unwrap();
    store.close().await;
}

#[tokio::test]
async fn a_url_with_a_fault_is_not_repeated() {
    let error = open("postgres://u:hunter2@db", Access::Service).await.unwrap_err();
    assert_eq!(
        error.to_string(),
        "the database URL does not contain the name of a database; write it as postgres://USER:PASSWORD@HOST/DATABASE"
    );
}

#[tokio::test]
async fn standbys_are_counted_while_no_commit_waits_for_one() {
    let server = Postgres::start(&PostgresOptions::default());
    let name = server.create_database();
    // A user who may not see what the connections of others are for.
    server.execute("postgres", "CREATE ROLE u LOGIN");
    server.execute("postgres", &format!("ALTER DATABASE {name} OWNER TO u"));
    let store = open(&server.url(&name).replace("postgres@", "u@"), Access::Service).await.unwrap();
    let until = async |expected| {
        wait_until(&format!("{expected} standbys"), Duration::from_secs(20), async || {
            store.asynchronous_standbys().await.unwrap() == expected
        })
        .await;
    };
    until(0).await;
    let standby = server.start_standby(&PostgresOptions::default());
    until(1).await;
    for (setting, expected) in
        [("SET synchronous_standby_names = '*'", 0), ("RESET synchronous_standby_names", 1)]
    {
        server.execute("postgres", &format!("ALTER SYSTEM {setting}"));
        server.execute("postgres", "SELECT pg_reload_conf()");
        until(expected).await;
        store
            .execute("INSERT INTO deliveries (up_to_seq, acked_at) VALUES (1, 1) ON CONFLICT DO NOTHING")
            .await
            .unwrap();
    }
    drop(standby);
    until(0).await;
    store.close().await;
}

#[tokio::test]
async fn while_a_synchronous_standby_is_away_only_one_session_for_pictures_waits_for_it() {
    let server = Postgres::start(&PostgresOptions::default());
    let name = server.create_database();
    let store = open(&server.url(&name), Access::Service).await.unwrap();
    let put = async |id: &str, seq| {
        let id = EventId::parse(id).unwrap();
        store.put_picture(&id, Seq(seq), &bytes::Bytes::from_static(b"picture")).await
    };
    put("a", 1).await.unwrap();
    for statement in ["ALTER SYSTEM SET synchronous_standby_names = 'ghost'", "SELECT pg_reload_conf()"] {
        server.execute("postgres", statement);
    }
    let waiting = "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'SyncRep'";
    let is_waited_for = async || put("b", 2).await.is_err();
    wait_until("a commit waits for the standby", Duration::from_secs(20), is_waited_for).await;
    for seq in 3..5 {
        put(&seq.to_string(), seq).await.unwrap_err();
    }
    assert_eq!(server.execute("postgres", waiting), "1");
    for statement in ["ALTER SYSTEM RESET synchronous_standby_names", "SELECT pg_reload_conf()"] {
        server.execute("postgres", statement);
    }
    let is_stored = async || put("c", 5).await.is_ok();
    wait_until("a picture is stored again", Duration::from_secs(20), is_stored).await;
    store.close().await;
}

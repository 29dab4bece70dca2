use std::{
    fs::{DirBuilder, OpenOptions},
    io,
    ops::{Deref, DerefMut},
    path::Path,
    time::Duration,
};

use sqlx::{
    Any, AnyConnection, AnyPool, ConnectOptions as _, Connection as _, SqlSafeStr as _,
    any::{AnyConnectOptions, AnyPoolOptions},
    error::DatabaseError,
    migrate::{Migrate as _, MigrateError, Migration, MigrationType},
    pool::PoolConnection,
};
use tokio::{
    sync::{MappedMutexGuard, Mutex, MutexGuard},
    time::{Instant, sleep, timeout},
};

use super::{DatabaseUrl, Entry, HistoryError, batch};

/// How long the database may take for an answer before it counts as gone.
pub(super) const ANSWER: Duration = Duration::from_secs(10);

/// How long it may take for a transaction. The disk may be busy with something else, and nobody waits for it.
pub(super) const TRANSACTION: Duration = Duration::from_secs(30);

/// How long another process may keep a file locked.
const LOCKED: Duration = Duration::from_secs(5);

/// How many questions are answered at a time.
const READERS: u32 = 4;

/// With a write-ahead log, what is committed has been handed to the kernel, so that it survives the process, killed in
/// whatever way; and readers do not wait for the writer. With `synchronous = NORMAL` it is forced to the disk when the log
/// is copied into the database, not at each commit: a power cut may cost the last seconds, but never what was before, and
/// leaves a sound database. With `FULL`, what is recorded while a busy disk takes its time would be lost with the process.
///
/// The first must come before there is a table: a file that has once been large can then become small again.
const SQLITE: &str = "PRAGMA auto_vacuum = INCREMENTAL; PRAGMA journal_mode = WAL; \
    PRAGMA synchronous = NORMAL; PRAGMA journal_size_limit = 16777216";

/// What has been released is never changed, only added to.
const MIGRATIONS: [(i64, &str, &str); 1] = [(
    1,
    "history",
    include_str!("../../migrations/0001_history.sql"),
)];

/// The database: one connection that writes, and some that read.
pub(super) struct Store {
    pub(super) server: String,
    kind: Kind,
    options: AnyConnectOptions,
    /// `None` from an error to the next attempt.
    writer: Mutex<Option<AnyConnection>>,
    /// `None` for a database in memory, which is its one connection.
    readers: Option<AnyPool>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    File,
    Memory,
    Postgres,
}

/// The connection that writes, for one at a time.
pub(super) struct Writing<'a> {
    store: &'a Store,
    connection: MutexGuard<'a, Option<AnyConnection>>,
}

/// A connection to read from.
pub(super) enum Reader<'a> {
    Pooled(PoolConnection<Any>),
    Shared(MappedMutexGuard<'a, AnyConnection>),
}

impl Store {
    /// Opens the database, brings its tables up to date, and ends what an earlier run of this server has left.
    pub(super) async fn open(database: &DatabaseUrl, server: &str) -> Result<Self, HistoryError> {
        sqlx::any::install_default_drivers();
        let kind = match database {
            DatabaseUrl::File(_) => Kind::File,
            DatabaseUrl::Memory => Kind::Memory,
            DatabaseUrl::Postgres(_) => Kind::Postgres,
        };
        let failed = |source: sqlx::Error| HistoryError::Open {
            database: database.to_string(),
            source: source.into(),
        };
        if let DatabaseUrl::File(path) = database {
            create(path).map_err(|error| failed(error.into()))?;
        }
        let options = AnyConnectOptions::from_url(&database.to_url()?)
            .map_err(failed)?
            .disable_statement_logging();

        let store = Self {
            server: server.to_owned(),
            kind,
            writer: Mutex::default(),
            readers: (kind != Kind::Memory).then(|| {
                AnyPoolOptions::new()
                    .max_connections(READERS)
                    .acquire_timeout(ANSWER)
                    .connect_lazy_with(options.clone())
            }),
            options,
        };
        store.end_what_was_left().await.map_err(failed)?;
        Ok(store)
    }

    pub(super) fn kind(&self) -> Kind {
        self.kind
    }

    /// Writes entries, all or none. After an error they may be there all the same, if it was the answer that got lost.
    pub(super) async fn write(&self, entries: &[Entry]) -> Result<(), sqlx::Error> {
        // Where a second process writes to the file too, a transaction that finds out late has to be done again.
        let begin = match self.kind {
            Kind::File | Kind::Memory => "BEGIN IMMEDIATE",
            Kind::Postgres => "BEGIN",
        };
        let mut writer = self.writer().await;
        let written = patiently(TRANSACTION, async {
            let connection = writer.connected().await?;
            sqlx::raw_sql(begin).execute(&mut *connection).await?;
            batch::insert(connection, &self.server, entries).await?;
            sqlx::raw_sql("COMMIT").execute(connection).await
        })
        .await;
        writer.settle(written.map(drop)).await
    }

    async fn end_what_was_left(&self) -> Result<(), sqlx::Error> {
        let mut writer = self.writer().await;
        let ended = patiently(ANSWER, async {
            batch::end_what_was_left(writer.connected().await?, &self.server).await
        })
        .await;
        writer.settle(ended).await
    }

    /// Whether it is an entry that the database does not want, so that it is no use to try it again. SQLite takes
    /// everything.
    pub(super) fn blames_an_entry(&self, error: &sqlx::Error) -> bool {
        // Appendix A of PostgreSQL's manual: data exception, integrity constraint violation, program limit exceeded.
        const CLASSES: [&str; 3] = ["22", "23", "54"];
        let code = error.as_database_error().and_then(DatabaseError::code);
        self.kind == Kind::Postgres
            && code.is_some_and(|code| CLASSES.iter().any(|class| code.starts_with(class)))
    }

    /// The connection that writes. Whoever uses it has to [`settle`](Writing::settle) what comes of it.
    pub(super) async fn writer(&self) -> Writing<'_> {
        Writing {
            store: self,
            connection: self.writer.lock().await,
        }
    }

    /// A connection to read from.
    pub(super) async fn reader(&self) -> Result<Reader<'_>, sqlx::Error> {
        match &self.readers {
            Some(pool) => Ok(Reader::Pooled(pool.acquire().await?)),
            None => MutexGuard::try_map(self.writer.lock().await, Option::as_mut)
                .map(Reader::Shared)
                .map_err(|_| sqlx::Error::PoolClosed),
        }
    }

    pub(super) async fn close(&self) {
        if let Some(readers) = &self.readers {
            readers.close().await;
        }
        if let Some(writer) = self.writer.lock().await.take() {
            // What is committed is safe either way.
            let _ = writer.close().await;
        }
    }

    /// Whether a connection is still good for something after such an error. One to a file that is opened anew on a full
    /// disk would hide what is wrong behind less telling errors.
    fn outlives(&self, error: &sqlx::Error) -> bool {
        const FULL: &str = "13";
        let code = error.as_database_error().and_then(DatabaseError::code);
        match self.kind {
            Kind::Memory => true,
            Kind::File => code.as_deref() == Some(FULL),
            Kind::Postgres => false,
        }
    }

    async fn connect(&self) -> Result<AnyConnection, sqlx::Error> {
        let mut connection = AnyConnection::connect_with(&self.options).await?;
        if self.kind != Kind::Postgres {
            configure(&mut connection).await?;
        }
        match self.kind {
            Kind::Postgres => migrate(&mut connection).await?,
            // For SQLite, the lock that keeps others from doing it at the same time is a transaction.
            Kind::File | Kind::Memory => {
                let mut transaction = connection.begin_with("BEGIN IMMEDIATE").await?;
                migrate(&mut transaction).await?;
                transaction.commit().await?;
            }
        }
        Ok(connection)
    }
}

impl Writing<'_> {
    /// The connection, which is made if there is none.
    pub(super) async fn connected(&mut self) -> Result<&mut AnyConnection, sqlx::Error> {
        match &mut *self.connection {
            Some(connection) => Ok(connection),
            none => Ok(none.insert(self.store.connect().await?)),
        }
    }

    /// Leaves nothing half done behind after an error.
    pub(super) async fn settle<T>(
        mut self,
        result: Result<T, sqlx::Error>,
    ) -> Result<T, sqlx::Error> {
        if let Err(error) = &result {
            match &mut *self.connection {
                // There is nothing to roll back if no transaction has begun, or it has ended by itself.
                Some(connection) if self.store.outlives(error) => {
                    let _ = sqlx::raw_sql("ROLLBACK").execute(connection).await;
                }
                connection => *connection = None,
            }
        }
        result
    }
}

impl Deref for Reader<'_> {
    type Target = AnyConnection;

    fn deref(&self) -> &AnyConnection {
        match self {
            Self::Pooled(connection) => connection,
            Self::Shared(connection) => connection,
        }
    }
}

impl DerefMut for Reader<'_> {
    fn deref_mut(&mut self) -> &mut AnyConnection {
        match self {
            Self::Pooled(connection) => connection,
            Self::Shared(connection) => connection,
        }
    }
}

/// Sets up a connection to SQLite. While another process turns a new file into one with a write-ahead log, SQLite says
/// at once that it is locked: for the change of `journal_mode` it does not wait as for everything else
/// (<https://www.sqlite.org/c3ref/busy_handler.html>: not where that could be a deadlock).
async fn configure(connection: &mut AnyConnection) -> Result<(), sqlx::Error> {
    const BUSY: &str = "5";
    const AGAIN: Duration = Duration::from_millis(10);
    let end = Instant::now() + LOCKED;
    loop {
        match sqlx::raw_sql(SQLITE).execute(&mut *connection).await {
            Err(sqlx::Error::Database(error))
                if error.code().as_deref() == Some(BUSY) && Instant::now() < end =>
            {
                sleep(AGAIN).await;
            }
            configured => return configured.map(drop),
        }
    }
}

/// Brings the tables up to date, as `Migrator::run` does; that one cannot be awaited in a task, where the compiler does
/// not see that it is `Send`. A newer server may have added to them.
async fn migrate(connection: &mut AnyConnection) -> Result<(), MigrateError> {
    const TABLE: &str = "_sqlx_migrations";
    connection.lock().await?;
    connection.ensure_migrations_table(TABLE).await?;
    let applied = connection.list_applied_migrations(TABLE).await?;
    for (version, name, sql) in MIGRATIONS {
        let migration = Migration::new(
            version,
            name.into(),
            MigrationType::Simple,
            sql.into_sql_str(),
            false,
        );
        match applied.iter().find(|it| it.version == version) {
            None => drop(connection.apply(TABLE, &migration).await?),
            Some(it) if it.checksum == migration.checksum => {}
            Some(_) => return Err(MigrateError::VersionMismatch(version)),
        }
    }
    connection.unlock().await
}

/// Makes the file, and its folder, for this user alone: addresses of clients are nobody else's business. SQLite gives
/// the files beside it the same permissions.
fn create(path: &Path) -> io::Result<()> {
    let mut folders = DirBuilder::new();
    let mut file = OpenOptions::new();
    #[cfg(unix)]
    {
        use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
        folders.mode(0o700);
        file.mode(0o600);
    }
    if let Some(folder) = path.parent() {
        folders.recursive(true).create(folder)?;
    }
    match file.create_new(true).write(true).open(path) {
        // It must not be opened if it is there: SQLite's locks of this process would end when it is closed again.
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists && !path.is_dir() => Ok(()),
        Err(_) if path.is_dir() => Err(io::ErrorKind::IsADirectory.into()),
        made => made.map(drop),
    }
}

/// Gives up when the database takes too long.
pub(super) async fn patiently<T>(
    patience: Duration,
    work: impl Future<Output = Result<T, sqlx::Error>>,
) -> Result<T, sqlx::Error> {
    timeout(patience, work).await.unwrap_or_else(|_| {
        let message = format!("the database did not answer within {patience:?}");
        Err(io::Error::new(io::ErrorKind::TimedOut, message).into())
    })
}

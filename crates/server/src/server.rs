use std::{
    io,
    net::{SocketAddr, TcpListener},
    sync::Arc,
    time::Duration,
};

use axum::Router;
use axum_server::{Handle, tls_rustls::RustlsAcceptor};
use hyper_util::rt::TokioTimer;
use tokio::{
    sync::{Semaphore, watch},
    task::JoinHandle,
    time::timeout,
};

use crate::{
    Sessions, Tls, Token,
    admission::Admission,
    api::{self, App, Metrics, Rate, Shared},
    history::{History, HistoryError},
    live::Live,
    model::Timestamp,
    monitor,
    notes::Notes,
};

/// How long the head of a request may take, and the next one on the same connection.
const HEAD: Duration = Duration::from_secs(30);

/// How many connections there may be. A process has 1,024 descriptors, unless it is told otherwise, and UDP and the
/// database need some.
const CONNECTIONS: usize = 900;

/// How many of them may be of one address: many browsers may be behind one, with six each.
const CONNECTIONS_OF_ONE: usize = 200;

/// How long requests that are under way may take when the server is about to end.
const LAST_REQUESTS: Duration = Duration::from_secs(1);

/// Sessions that are watched, measured and changed over HTTP: WHIP, a REST API with events, the dashboard, and a page for
/// whoever is measured. Clones are the same server.
///
/// ```no_run
/// # async fn example(sessions: perpacket_server::Sessions) -> std::io::Result<()> {
/// use perpacket_server::{Server, Token};
///
/// let token = Token::generate();
/// println!("the token is {}", token.reveal());
/// let server = Server::builder(sessions, token).name("edge-1").build();
/// server.serve(std::net::TcpListener::bind("127.0.0.1:8080")?, None).await
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct Server {
    app: App,
    admission: Admission,
    handle: Handle<SocketAddr>,
    monitor: Arc<Task>,
}

/// A task that ends with this.
#[derive(Debug)]
struct Task(JoinHandle<()>);

impl Drop for Task {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// How a [`Server`] is to be made.
#[derive(Debug)]
pub struct ServerBuilder {
    sessions: Sessions,
    token: Token,
    name: String,
    history: Option<History>,
    origins: Vec<String>,
    rate: (u32, u32),
    connections: (usize, usize),
    measurements: usize,
}

impl ServerBuilder {
    /// The name of the server, by which several that share a database are told apart; `perpacket` unless told otherwise.
    #[must_use]
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.name = name.into();
        self
    }

    /// Where what happens is kept. Without it the server remembers a little, until it ends.
    #[must_use]
    pub fn history(mut self, history: History) -> Self {
        self.history = Some(history);
        self
    }

    /// What browsers see this server as, such as `https://ops.example.org`, where a proxy does not pass on `Host`. Pages
    /// of origins that are neither this nor the host that was asked are refused. Only WHIP has CORS.
    #[must_use]
    pub fn origin(mut self, origin: impl Into<String>) -> Self {
        self.origins.push(origin.into());
        self
    }

    /// How many requests an address may make a second, and how many at once; 50 and 500 unless told otherwise. All of an
    /// IPv6 network (64 bits) is one address.
    #[must_use]
    pub fn rate(mut self, per_second: u32, burst: u32) -> Self {
        self.rate = (per_second.max(1), burst.max(1));
        self
    }

    /// How many connections of [`Server::serve`] may be open, in all and from one address; 900 and 200 unless told
    /// otherwise. All of an IPv6 network (64 bits) is one address.
    #[must_use]
    pub fn connections(mut self, all: usize, of_one_address: usize) -> Self {
        self.connections = (all, of_one_address);
        self
    }

    /// How many measurements may be under way at a time; 16 unless told otherwise.
    #[must_use]
    pub fn measurements(mut self, measurements: usize) -> Self {
        self.measurements = measurements;
        self
    }

    /// The server, which watches its sessions from now on. To be called on a tokio runtime.
    #[must_use]
    pub fn build(self) -> Server {
        let Self {
            sessions,
            token,
            name,
            history,
            origins,
            rate: (per_second, burst),
            connections: (all, of_one_address),
            measurements,
        } = self;
        let name: Arc<str> = name.into();
        let live = Arc::<Live>::default();
        let notes = Arc::new(Notes {
            live: Arc::clone(&live),
            history,
            metrics: Metrics::default(),
        });
        let monitor = tokio::spawn(monitor::run(
            sessions.clone(),
            Arc::clone(&notes),
            Arc::clone(&name),
        ));
        let app = App::new(Shared {
            name,
            started: Timestamp::now(),
            udp: sessions.transport().local_addrs(),
            sessions,
            live,
            notes,
            token,
            origins,
            rate: Rate::new(per_second, burst),
            streams: Arc::new(Semaphore::new(api::STREAMS)),
            own_streams: Arc::new(Semaphore::new(api::OWN_STREAMS)),
            measuring: Arc::new(Semaphore::new(measurements)),
            measurements,
            stopping: watch::Sender::new(false),
        });
        Server {
            app,
            admission: Admission::new(all, of_one_address),
            handle: Handle::new(),
            monitor: Arc::new(Task(monitor)),
        }
    }
}

impl Server {
    /// A server for these sessions, whose operators prove with this token that they may.
    #[must_use]
    pub fn builder(sessions: Sessions, token: Token) -> ServerBuilder {
        ServerBuilder {
            sessions,
            token,
            name: "perpacket".to_owned(),
            history: None,
            origins: Vec::new(),
            rate: (50, 500),
            connections: (CONNECTIONS, CONNECTIONS_OF_ONE),
            measurements: 16,
        }
    }

    /// All that it answers, for an HTTP server of one's own. Serve it with
    /// [`into_make_service_with_connect_info::<SocketAddr>`](Router::into_make_service_with_connect_info), so that it
    /// knows who asks.
    pub fn router(&self) -> Router {
        api::router(self.app.clone())
    }

    /// Answers over HTTP, or HTTPS, until [`shutdown`](Self::shutdown).
    ///
    /// # Errors
    /// When the listener cannot be used.
    pub async fn serve(&self, listener: TcpListener, tls: Option<Tls>) -> io::Result<()> {
        listener.set_nonblocking(true)?;
        let service = self
            .router()
            .into_make_service_with_connect_info::<SocketAddr>();
        // Not HTTP/2: one that waits to see which it is waits for ever.
        let mut server = axum_server::from_tcp(listener)?
            .handle(self.handle.clone())
            .acceptor(self.admission.clone())
            .http1_only();
        server
            .http_builder()
            .http1()
            .timer(TokioTimer::new())
            .header_read_timeout(HEAD);
        match tls {
            None => server.serve(service).await,
            Some(tls) => {
                let secure = |plain| RustlsAcceptor::new(tls.into_config()).acceptor(plain);
                server.map(secure).serve(service).await
            }
        }
    }

    /// Ends all sessions and streams, and then the history: what was recorded by then is kept.
    ///
    /// # Errors
    /// When not everything could be recorded.
    pub async fn shutdown(&self, within: Duration) -> Result<(), HistoryError> {
        self.app.stopping.send_replace(true);
        self.handle.graceful_shutdown(Some(LAST_REQUESTS));
        let begun = tokio::time::Instant::now();
        // What is left of the time is for the history, of which there is half at least.
        let closed = timeout(within / 2, async {
            self.app.sessions.close_all().await;
            // Each client is noted as ended.
            self.app.live.emptied().await;
        });
        if closed.await.is_err() {
            tracing::warn!("not all sessions could be closed in time");
        }
        self.monitor.0.abort();
        match self.app.notes.history.clone() {
            Some(history) => history.close(within.saturating_sub(begun.elapsed())).await,
            None => Ok(()),
        }
    }
}

//! The server, in a process of its own: this program again, so that what it uses can be told from what its clients use.

use std::env;
use std::io::{BufRead as _, BufReader, Read as _, stdin};
use std::net::{IpAddr, SocketAddr, TcpListener};
use std::path::Path;
use std::process::{Command, ExitCode, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use perpacket_lab::{Node, Process};
use perpacket_server::history::{DatabaseUrl, History, Retention};
use perpacket_server::{Server, Sessions, Token, Transport};
use perpacket_webrtc::{CustomMux, CustomNet};
use tokio::runtime::Runtime;

/// The address that the server is to have, where this process is to be one.
const ADDRESS: &str = "PERPACKET_TEST_ADDRESS";
const DATABASE: &str = "PERPACKET_TEST_DATABASE";

/// How long its end may take.
const CLOSING: Duration = Duration::from_secs(5);

/// One that runs.
pub(crate) struct Running {
    process: Process,
    pub(crate) address: SocketAddr,
    pub(crate) token: String,
}

impl Running {
    pub(crate) fn start(node: &Node, address: IpAddr, database: &Path) -> Result<Self> {
        let mut command = Command::new(env::current_exe()?);
        command
            .env(ADDRESS, address.to_string())
            .env(DATABASE, database)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped());
        let mut process = node.spawn(&mut command)?;
        let stdout = process.child().stdout.take().context("no stdout")?;
        let mut line = String::new();
        BufReader::new(stdout).read_line(&mut line)?;
        let (address, token) = line.trim().split_once(' ').context("it does not start")?;
        Ok(Self {
            address: address.parse()?,
            token: token.to_owned(),
            process,
        })
    }

    pub(crate) fn id(&self) -> u32 {
        self.process.id()
    }

    /// Ends it, and fails unless it ends well.
    pub(crate) fn end(self) -> Result<()> {
        let output = self.process.wait()?;
        ensure!(output.status.success(), "{output:?}");
        Ok(())
    }
}

/// Is the server, if this process is to be one.
pub(crate) fn if_asked() -> Option<ExitCode> {
    let address = env::var(ADDRESS).ok()?;
    let ended = serve(&address).inspect_err(|error| eprintln!("{error:?}"));
    Some(ended.map_or(ExitCode::FAILURE, |()| ExitCode::SUCCESS))
}

/// Until nobody holds its stdin.
fn serve(address: &str) -> Result<()> {
    let address = SocketAddr::new(address.parse()?, 0);
    let database = DatabaseUrl::File(env::var_os(DATABASE).context("no database")?.into());
    Runtime::new()?.block_on(async {
        let mux = CustomMux::bind(&CustomNet::new(), address)?;
        let sessions = Sessions::builder(Transport::Mux(mux.clone()))
            .bind(address.ip())
            .build();
        let history = History::open(&database, "many", Retention::default()).await?;
        let token = Token::generate();
        let secret = token.reveal().to_owned();
        // All clients are at one address.
        let server = Server::builder(sessions, token)
            .history(history)
            .rate(10_000, 10_000)
            .build();
        let listener = TcpListener::bind(address)?;
        println!("{} {secret}", listener.local_addr()?);
        let running = server.clone();
        let running = tokio::spawn(async move { running.serve(listener, None).await });
        tokio::task::spawn_blocking(|| stdin().read(&mut [0])).await??;
        server.shutdown(CLOSING).await?;
        running.abort();
        mux.close().await;
        Ok(())
    })
}

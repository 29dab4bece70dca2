//! A browser in a node, driven by `WebDriver`.

use std::future::Future;
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result};
use perpacket_lab::{Node, NodeRuntime, Process, require_program, until};
use serde_json::{Value, json};
use tempfile::TempDir;
use thirtyfour::{Capabilities, WebDriver};

use super::program::{INSTALL, installed};
use crate::support::connection::DEADLINE;

/// The port of a driver. It has a network of its own.
const PORT: u16 = 4444;

/// How to start a browser.
pub(crate) struct Kind {
    browser: &'static str,
    driver: &'static str,
    capabilities: fn(binary: &Path, files: &Path, camera: bool) -> Value,
}

pub(crate) const CHROMIUM: Kind = Kind {
    browser: "chromium",
    driver: "chromedriver",
    capabilities: chromium,
};

pub(crate) const FIREFOX: Kind = Kind {
    browser: "firefox-esr",
    driver: "geckodriver",
    capabilities: firefox,
};

pub(crate) struct Browser {
    driver: Option<WebDriver>,
    version: String,
    // In the order in which they go.
    _process: Process,
    runtime: NodeRuntime,
    _files: TempDir,
}

impl Browser {
    /// Starts a browser in a node, whose pages may use a camera or not.
    pub(crate) fn start(node: &Node, kind: &Kind, camera: bool) -> Result<Self> {
        let browser = require_program(kind.browser, INSTALL)?;
        let driver = installed(&format!("bin/{}", kind.driver))
            .or_else(|_| require_program(kind.driver, INSTALL))?;
        let files = tempfile::tempdir()?;
        let mut command = Command::new(&browser);
        let version = node.output(command.arg("--version").env("HOME", files.path()))?;
        let version = String::from_utf8(version.stdout)?.trim().to_owned();

        let mut command = Command::new(driver);
        command
            .arg(format!("--port={PORT}"))
            .env("HOME", files.path())
            .env("TMPDIR", files.path())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        let process = node.spawn(&mut command)?;
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, PORT));
        until(
            DEADLINE,
            || format!("{} to listen", kind.driver),
            || Ok(node.run(|| TcpStream::connect(address)).ok()),
        )?;

        let capabilities: Capabilities =
            serde_json::from_value((kind.capabilities)(&browser, files.path(), camera))?;
        // Built together with the program, the HTTP client of the driver has no cryptography by itself, and
        // wants some where none is used. An error says that another test was first.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let runtime = node.runtime()?;
        let driver = runtime.block_on(async {
            let driver = WebDriver::new(format!("http://{address}"), capabilities).await?;
            driver.set_script_timeout(DEADLINE).await?;
            anyhow::Ok(driver)
        });
        let driver = driver.with_context(|| version.clone())?;
        Ok(Self {
            driver: Some(driver),
            version,
            _process: process,
            runtime,
            _files: files,
        })
    }

    /// What it calls itself.
    pub(crate) fn version(&self) -> &str {
        &self.version
    }

    /// Does something with its driver, on a thread in the node.
    pub(crate) fn drive<F>(&self, what: impl FnOnce(WebDriver) -> F) -> F::Output
    where
        F: Future + Send,
        F::Output: Send,
    {
        let driver = self.driver.clone().expect("it has not quit");
        self.runtime.block_on(what(driver))
    }

    /// Ends the browser.
    pub(crate) fn quit(mut self) -> Result<()> {
        let driver = self.driver.take().context("it has quit")?;
        Ok(self.runtime.block_on(driver.quit())?)
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        if let Some(driver) = self.driver.take() {
            // What does not end so is ended with its node.
            let _ = self.runtime.block_on(driver.quit());
        }
    }
}

fn chromium(binary: &Path, files: &Path, camera: bool) -> Value {
    let profile = format!("--user-data-dir={}", files.display());
    let mut args = vec![
        "--headless",
        // The user of a namespace of its own is root there, and root's Chromium wants no sandbox.
        "--no-sandbox",
        "--disable-gpu",
        "--disable-quic",
        "--no-first-run",
        "--disable-background-networking",
        "--disable-component-update",
        "--disable-sync",
        "--autoplay-policy=no-user-gesture-required",
        &profile,
    ];
    if camera {
        // With permission to use it, also where a page does not ask, it no longer hides addresses.
        args.extend([
            "--use-fake-device-for-media-stream",
            "--use-fake-ui-for-media-stream",
        ]);
    }
    json!({
        "browserName": "chrome",
        "goog:chromeOptions": {
            "binary": binary,
            "args": args,
            // Its own first page wants the internet, and what is to be opened waits for it.
            "prefs": {"session": {"restore_on_startup": 4, "startup_urls": ["about:blank"]}},
        },
        "goog:loggingPrefs": {"browser": "ALL"},
    })
}

fn firefox(binary: &Path, _files: &Path, camera: bool) -> Value {
    json!({
        "browserName": "firefox",
        "moz:firefoxOptions": {
            "binary": binary,
            "args": ["-headless"],
            "prefs": {
                "media.autoplay.default": 0,
                "media.navigator.permission.disabled": camera,
                "media.navigator.streams.fake": camera,
                // Its fake devices do not count as ones that somebody has given permission for.
                "media.peerconnection.ice.obfuscate_host_addresses": !camera,
            },
        },
    })
}

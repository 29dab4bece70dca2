//! What the libraries say of themselves, on standard error.

use std::{
    env,
    io::{self, IsTerminal as _},
};

use tracing_subscriber::EnvFilter;

use crate::output::live;

/// The variable that says what to log, in the syntax of `tracing-subscriber`.
const VARIABLE: &str = "PERPACKET_LOG";

/// Warnings of perpacket alone, unless more is asked for.
pub(crate) fn install(verbose: u8) {
    let level = match verbose {
        0 => "perpacket_udp=warn,perpacket_webrtc=warn,perpacket_path=warn,perpacket_server=warn",
        1 => "info",
        2 => "debug",
        _ => "trace",
    };
    let filter = env::var(VARIABLE).unwrap_or_else(|_| level.to_owned());
    let colours = live::has_colours();
    tracing_subscriber::fmt()
        .with_env_filter(EnvFilter::new(filter))
        .with_ansi(colours && io::stderr().is_terminal())
        .with_writer(|| live::Aside)
        .init();
}

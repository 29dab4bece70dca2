//! `perpacket`: measures the path of a WebRTC session from inside.
//!
//! It joins a WHIP or WHEP server as a client, and asks on the 5-tuple of the media where the path goes
//! (`trace`), how large a packet it carries (`pmtu`), what it does with marks (`qos`), and how many hops
//! away the server is (`ttl`). `connect` joins and tells how the session is doing; `serve` is a server
//! to join. Results go to standard output, everything else to standard error.

#![forbid(unsafe_code)]

mod args;
mod client;
mod connect;
mod exit;
mod interrupt;
mod log;
mod measure;
mod output;
mod pmtu;
mod qos;
mod serve;
mod session;
mod set;
mod trace;
mod ttl;

use std::process::ExitCode;

use clap::Parser as _;

use args::{Args, Command};

#[tokio::main]
async fn main() -> ExitCode {
    let args = Args::parse();
    log::install(args.verbose);
    let outcome = match args.command {
        Command::Connect(args) => connect::run(args).await,
        Command::Trace(args) => trace::run(args).await,
        Command::Pmtu(args) => pmtu::run(args).await,
        Command::Qos(args) => qos::run(args).await,
        Command::Ttl(args) => ttl::run(args).await,
        Command::Serve(args) => serve::run(args).await,
    };
    exit::code(outcome)
}

//! The command line.

use std::{net::IpAddr, time::Duration};

use clap::{ArgAction, Args as ClapArgs, Parser, Subcommand};
use perpacket_webrtc::AddressFamily;
use url::Url;

use crate::{
    connect, exit, pmtu, qos, serve,
    set::{self, Setting},
    trace, ttl,
};

/// Measures the path of a WebRTC session from inside: on the media's own 5-tuple, without root.
#[derive(Debug, Parser)]
#[command(version, after_help = exit::HELP)]
pub(crate) struct Args {
    /// Say more of what happens, on standard error; twice and three times for more. `PERPACKET_LOG` says
    /// what in detail, e.g. `perpacket_webrtc=trace`.
    #[arg(short, long, global = true, action = ArgAction::Count)]
    pub(crate) verbose: u8,

    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    Connect(connect::Args),
    Trace(trace::Args),
    Pmtu(pmtu::Args),
    Qos(qos::Args),
    Ttl(ttl::Args),
    Serve(serve::Args),
}

/// How a server is joined.
#[derive(Clone, Debug, ClapArgs)]
#[command(next_help_heading = "Joining")]
#[expect(
    clippy::struct_excessive_bools,
    reason = "switches of a command line have nothing to do with each other"
)]
pub(crate) struct Join {
    /// A WHIP endpoint (RFC 9725), or a WHEP one with --whep.
    #[arg(value_parser = parse_url, help_heading = None)]
    pub(crate) url: Url,

    /// Ask for media, as WHEP does, in place of sending it.
    #[arg(long)]
    pub(crate) whep: bool,

    /// Offer no data channel, for a server that refuses one.
    #[arg(long)]
    pub(crate) media_only: bool,

    /// The bearer token that the endpoint wants.
    #[arg(long, env = "PERPACKET_TOKEN", hide_env_values = true)]
    pub(crate) token: Option<String>,

    /// Accept any certificate over HTTPS.
    #[arg(long)]
    pub(crate) insecure: bool,

    /// Use IPv4 only.
    #[arg(short = '4', long, conflicts_with = "ipv6")]
    pub(crate) ipv4: bool,

    /// Use IPv6 only.
    #[arg(short = '6', long)]
    pub(crate) ipv6: bool,

    /// The address of this host to send from. By default the system's choice; where the URL leads to
    /// a loopback address, the loopback address.
    #[arg(long, value_name = "ADDR")]
    pub(crate) bind: Option<IpAddr>,

    /// The UDP port to send from; 0 for any that is free.
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub(crate) udp_port: u16,

    /// How long the server may take to answer over HTTP, and then to be connected, each.
    #[arg(long, value_name = "SECONDS", default_value = "15", value_parser = parse_seconds)]
    pub(crate) timeout: Duration,

    /// What a class of the session's own packets gets; can be repeated. CLASS is stun, dtls, srtp or
    /// srtcp, FIELD is ttl, df, tos, dscp or ecn. What is left out is the system's default.
    #[arg(long, value_name = set::FORM, value_parser = set::parse)]
    pub(crate) set: Vec<Setting>,
}

impl Join {
    /// The family that is asked for, by whatever option.
    pub(crate) fn family(&self) -> Option<AddressFamily> {
        let of_bind = |address: IpAddr| match address {
            IpAddr::V4(_) => AddressFamily::V4,
            IpAddr::V6(_) => AddressFamily::V6,
        };
        if self.ipv4 {
            Some(AddressFamily::V4)
        } else if self.ipv6 {
            Some(AddressFamily::V6)
        } else {
            self.bind.map(of_bind)
        }
    }
}

fn parse_url(text: &str) -> Result<Url, String> {
    const FORM: &str = "expected http://HOST[:PORT]/PATH, or https";
    let url = Url::parse(text).map_err(|error| format!("{error}: {FORM}"))?;
    if !matches!(url.scheme(), "http" | "https") {
        return Err(FORM.to_owned());
    }
    Ok(url)
}

/// A time in seconds, a millisecond at least and a day at most.
pub(crate) fn parse_seconds(text: &str) -> Result<Duration, String> {
    const LEAST: f64 = 0.001;
    const DAY: f64 = 86_400.0;
    let seconds: f64 = text
        .parse()
        .map_err(|_| format!("{text:?} is not a number of seconds"))?;
    if (LEAST..=DAY).contains(&seconds) {
        Ok(Duration::from_secs_f64(seconds))
    } else {
        Err(format!("{text} is not in {LEAST}..={DAY} seconds"))
    }
}

use std::{
    io,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering::Relaxed},
    },
    time::{Duration, Instant, SystemTime},
};

use arc_swap::ArcSwap;
use perpacket_udp::{Error, IcmpErrors, Timestamps, Transmit};
use rand::random;
use tokio::{task::JoinHandle, time::timeout};
use webrtc::peer_connection::RTCPeerConnection;

use super::{
    Clock, Probe, ProbeAnswer, ProbeError, ProbeOutcome, ProbeResult, Rtt,
    pace::Pace,
    pending::{Arrival, Pending, What},
    request::MAX_LENGTH,
    target::Target,
};
use crate::{Session, TapGuard, port::header_length};

/// How many probes leave in a second, and how many at once.
const RATE: (u32, u32) = (200, 64);

/// Asks the path of a connected session: sends what looks to the peer like a check of ICE (RFC 8445
/// §7.2.4), on the very addresses and ports that the media uses, with the TTL, DF bit and marks of one's
/// choice, and says what became of it.
///
/// Each [`Probe`] has the session's USERNAME and MESSAGE-INTEGRITY and a transaction of its own, and
/// never nominates. Answers are claimed by a [`Tap`](crate::Tap), so ICE sees nothing of them; checks
/// of consent (RFC 7675) are not touched. While it lives, its socket receives ICMP errors and
/// timestamps. Dropping it ends both, and forgets the probes that are out.
///
/// A probe goes the way of the session's packets: where its options name no source address or no flow
/// label, it has those that the policy has for the session's DTLS. Nothing else of the policy counts
/// for it.
///
/// Two paths are out of reach: that of a session that goes through a TURN server of its own, and that
/// of TCP candidates.
///
/// ```no_run
/// # async fn example(
/// #     session: perpacket_webrtc::Session,
/// #     connection: std::sync::Arc<webrtc::peer_connection::RTCPeerConnection>,
/// # ) -> Result<(), perpacket_webrtc::ProbeError> {
/// use perpacket_webrtc::{Probe, ProbeResult, Prober, udp::MessageOptions};
///
/// let prober = Prober::new(&session, &connection).await?;
/// let third_hop = Probe::new().with_options(MessageOptions::NONE.with_ttl(3));
/// match prober.probe(third_hop).await?.result {
///     ProbeResult::Answered(answer) => println!("the peer, after {:?}", answer.rtt.time),
///     ProbeResult::Icmp { error, .. } => println!("{:?}: {}", error.offender, error.kind),
///     ProbeResult::TooBigHere { .. } | ProbeResult::Lost => println!("silence"),
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct Prober {
    session: Session,
    connection: Arc<RTCPeerConnection>,
    target: ArcSwap<Aimed>,
    pending: Arc<Pending>,
    pace: Pace,
    number: AtomicU32,
    _tap: TapGuard,
}

/// A target, and what its socket is asked for meanwhile.
#[derive(Debug)]
struct Aimed {
    target: Target,
    local: SocketAddr,
    errors: Option<JoinHandle<()>>,
    _timestamps: Option<Timestamps>,
}

impl Drop for Aimed {
    fn drop(&mut self) {
        if let Some(errors) = &self.errors {
            errors.abort();
        }
    }
}

impl Aimed {
    /// Makes the target's socket ready.
    fn new(session: &Session, target: Target, pending: &Arc<Pending>) -> Result<Self, ProbeError> {
        let exit = target.exit().ok_or_else(|| ProbeError::NoSocket {
            session: session.id().to_string(),
            remote: target.remote,
        })?;
        // Where a system has neither, there are answers all the same.
        let errors = match exit.socket.icmp_errors() {
            Ok(errors) => {
                let pending = Arc::clone(pending);
                Some(tokio::spawn(hand_over(errors, pending)))
            }
            Err(error) => {
                tracing::warn!(%error, "no hop of the path will be seen");
                None
            }
        };
        let timestamps = exit
            .socket
            .timestamps()
            .inspect_err(|error| tracing::warn!(%error, "times are this program's"))
            .ok();
        Ok(Self {
            local: exit.local(),
            errors,
            _timestamps: timestamps,
            target,
        })
    }
}

async fn hand_over(mut errors: IcmpErrors, pending: Arc<Pending>) {
    while let Some(error) = errors.recv().await {
        pending.complained(&error);
    }
}

impl Prober {
    /// A prober for the pair of candidates that ICE has selected, with the credentials from the
    /// descriptions of the peer connection, which has to be the session's.
    ///
    /// webrtc-rs 0.17 locks its local description from when DTLS is connected until SCTP is: with a peer that
    /// accepts a data channel and never sets it up, this waits.
    ///
    /// # Errors
    /// Why the session cannot be probed.
    pub async fn new(
        session: &Session,
        connection: &Arc<RTCPeerConnection>,
    ) -> Result<Self, ProbeError> {
        let target = Target::of(session, connection).await?;
        let pending = Arc::new(Pending::new(target.remote, &target.credentials.password));
        Ok(Self {
            session: session.clone(),
            connection: Arc::clone(connection),
            target: ArcSwap::from_pointee(Aimed::new(session, target, &pending)?),
            pace: Pace::new(RATE.0, RATE.1),
            number: AtomicU32::new(random()),
            _tap: session.tap(Arc::clone(&pending) as _),
            pending,
        })
    }

    /// The same with another limit: so many probes a second, so many at once. By default 200 and 64.
    #[must_use]
    pub fn with_rate(mut self, per_second: u32, burst: u32) -> Self {
        self.pace = Pace::new(per_second, burst);
        self
    }

    /// Looks up the selected pair and the credentials again, which an ICE restart changes (RFC 8445
    /// §9), and says whether they have changed. Probes that are out meanwhile may be lost.
    ///
    /// # Errors
    /// Why the session cannot be probed any more.
    pub async fn refresh(&self) -> Result<bool, ProbeError> {
        let target = Target::of(&self.session, &self.connection).await?;
        if target.is_same(&self.target.load().target) {
            return Ok(false);
        }
        let (remote, password) = (target.remote, target.credentials.password.clone());
        let aimed = Aimed::new(&self.session, target, &self.pending)?;
        self.pending.set_peer(remote, &password);
        self.target.store(Arc::new(aimed));
        Ok(true)
    }

    /// The session.
    #[must_use]
    pub fn session(&self) -> &Session {
        &self.session
    }

    /// The address that probes, and the session's packets, leave from. It is unspecified where the
    /// kernel chooses it for each datagram.
    #[must_use]
    pub fn local(&self) -> SocketAddr {
        let aimed = self.target.load();
        let way = aimed.target.port.way_to(aimed.target.remote);
        way.source.map_or(aimed.local, |source| {
            SocketAddr::new(source.to_canonical(), aimed.local.port())
        })
    }

    /// The address that they go to.
    #[must_use]
    pub fn remote(&self) -> SocketAddr {
        self.target.load().target.remote
    }

    /// Bytes of IP and UDP header: 28, or 48 on IPv6.
    #[must_use]
    pub fn overhead(&self) -> usize {
        header_length(self.remote())
    }

    /// The smallest probe, bytes of IP packet.
    #[must_use]
    pub fn min_size(&self) -> usize {
        let target = self.target.load();
        let length = target.target.credentials.request([0; 12], 0);
        self.overhead() + length.map_or(0, |request| request.len())
    }

    /// How many ICMP errors about datagrams to the peer quoted none of the probes: they are about the
    /// session's own packets, or forged.
    #[must_use]
    pub fn stray_icmp(&self) -> u64 {
        self.pending.stray_icmp()
    }

    /// Sends a probe when it is its turn, and waits for what comes back. Any number of probes can be
    /// out at once. Dropping the future forgets the probe.
    ///
    /// # Errors
    /// When it could not be sent at all. That it is too large for this host is a result.
    pub async fn probe(&self, probe: Probe) -> Result<ProbeOutcome, ProbeError> {
        self.pace.turn().await;
        let aimed = self.target.load_full();
        let Target {
            remote,
            credentials,
            port,
            ..
        } = &aimed.target;
        let overhead = header_length(*remote);
        let length = probe.size.unwrap_or(0).saturating_sub(overhead);
        let too_large = || ProbeError::TooLarge {
            size: probe.size.unwrap_or_default(),
            max: overhead + MAX_LENGTH,
        };
        if length > MAX_LENGTH {
            return Err(too_large());
        }
        let id = random();
        let request = credentials.request(id, length).map_err(|_| too_large())?;
        let number = self.number.fetch_add(1, Relaxed);
        let (waiting, arrival) = self.pending.wait_for(id);

        let no_socket = || ProbeError::NoSocket {
            session: self.session.id().to_string(),
            remote: *remote,
        };
        let exit = aimed.target.exit().ok_or_else(no_socket)?;
        let mut options = probe.options.or(port.way_to(*remote));
        options.source = options.source.or(exit.source);
        let transmit = Transmit::new(&request, exit.target)
            .with_options(options)
            .with_probe(number);
        let outcome = |sent, result| ProbeOutcome {
            transaction_id: id,
            size: overhead + request.len(),
            sent,
            result,
        };
        let before = (SystemTime::now(), Instant::now());
        if let Err(error) = exit.socket.send(&transmit).await {
            return if is_too_big(&error) {
                let mtu = exit.socket.refused_mtu();
                Ok(outcome(before.0, ProbeResult::TooBigHere { mtu }))
            } else {
                Err(error.into())
            };
        }
        let with = port.probe_sent_with(&exit.socket, &transmit);
        let local = exit.socket.local_addr();
        // A mux that is closed waits for its sockets to be let go.
        drop(exit);
        port.probed(&local, &transmit, *remote, with);

        let arrival = timeout(probe.timeout, arrival).await;
        let stamped = aimed
            .target
            .exit()
            .and_then(|exit| exit.socket.sent_at(number));
        let sent = stamped.unwrap_or(before.0);
        let Some(arrival) = arrival
            .ok()
            .and_then(Result::ok)
            .or_else(|| waiting.unproved())
        else {
            return Ok(outcome(sent, ProbeResult::Lost));
        };
        let rtt = round_trip(&arrival, stamped, before.1);
        let result = match arrival.what {
            What::Answer {
                ttl,
                tos,
                error_code,
                mapped,
            } => ProbeResult::Answered(ProbeAnswer {
                rtt,
                at: arrival.stamped.unwrap_or(sent + rtt.time),
                ttl,
                tos,
                error_code,
                mapped,
            }),
            What::Icmp(error, attribution) => ProbeResult::Icmp {
                error,
                rtt,
                attribution,
            },
        };
        Ok(outcome(sent, result))
    }
}

/// By the kernel's clock where it looked at it at both ends and nobody has set it meanwhile, or else by
/// our own.
fn round_trip(arrival: &Arrival, sent: Option<SystemTime>, before: Instant) -> Rtt {
    let seen = arrival.seen.saturating_duration_since(before);
    let stamped = arrival
        .stamped
        .zip(sent)
        .and_then(|(arrived, sent)| arrived.duration_since(sent).ok())
        // The kernel saw it leave after us, and come back before us.
        .filter(|time| *time <= seen + Duration::from_millis(1));
    match stamped {
        Some(time) => Rtt {
            time,
            clock: Clock::Kernel,
        },
        None => Rtt {
            time: seen,
            clock: Clock::User,
        },
    }
}

fn is_too_big(error: &Error) -> bool {
    error
        .io()
        .and_then(io::Error::raw_os_error)
        .is_some_and(|code| code == EMSGSIZE)
}

#[cfg(unix)]
const EMSGSIZE: i32 = libc::EMSGSIZE;
/// `WSAEMSGSIZE`
#[cfg(not(unix))]
const EMSGSIZE: i32 = 10040;

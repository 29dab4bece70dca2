//! Follows each client from its offer to its end, and samples it once a second.

mod pair;
mod probing;
mod verdict;

use std::{sync::Arc, time::Duration};

use perpacket_path::{PathMtu, PathMtuConfig, ReachTtl, ReachTtlConfig};
use perpacket_webrtc::{PacketClass, PeerCounters, Prober, SessionId, udp::Tos};
use tokio::{
    sync::watch,
    task::JoinSet,
    time::{Instant, MissedTickBehavior, interval, interval_at},
};

use crate::{
    Sessions,
    live::LiveClient,
    measurements::{keep_path_mtu, keep_reach},
    model::{ClientState, Icmp, Rates, Sample, Timestamp},
    notes::Notes,
};
use pair::Pairing;
use probing::{Checked, Probing};
use verdict::{Judge, Second};

/// From one sample to the next.
const SAMPLE: Duration = Duration::from_secs(1);

/// After how many samples what is known of a client is recorded again, though nothing has happened to it: others that
/// share the database see it.
const KEEP: u64 = 10;

/// Follows all clients, until the sessions are gone.
pub(crate) async fn run(sessions: Sessions, notes: Arc<Notes>, server: Arc<str>) {
    let mut count = sessions.count();
    let mut following = JoinSet::new();
    let policy = sessions.transport().net().policy().clone();
    loop {
        count.mark_unchanged();
        let is_new = |id: &SessionId| notes.live.get(id.as_str()).is_none();
        for followed in sessions.follow(is_new) {
            let gone = followed.gone.clone();
            let states = followed.state.clone();
            let client = Arc::new(LiveClient::new(&server, &policy, followed));
            if notes.live.add(&client) {
                following.spawn(follow(client, Arc::clone(&notes), states, gone));
            }
        }
        tokio::select! {
            changed = count.changed() => if changed.is_err() {
                return;
            },
            // Whoever has ended is no longer in the way of its successor.
            Some(_) = following.join_next() => {}
        }
    }
}

type States =
    watch::Receiver<webrtc::peer_connection::peer_connection_state::RTCPeerConnectionState>;

async fn follow(
    client: Arc<LiveClient>,
    notes: Arc<Notes>,
    mut states: States,
    mut gone: watch::Receiver<()>,
) {
    notes.client(&client);
    let mut follower = Follower::new(Arc::clone(&client), Arc::clone(&notes));
    let mut samples = interval_at(Instant::now() + SAMPLE, SAMPLE);
    samples.set_missed_tick_behavior(MissedTickBehavior::Skip);
    let mut checks = interval(probing::EVERY);
    checks.set_missed_tick_behavior(MissedTickBehavior::Skip);
    loop {
        tokio::select! {
            // Nothing is ever sent: an error says that nothing is left of the session.
            _ = gone.changed() => break,
            changed = states.changed() => {
                if changed.is_err() {
                    // The sender goes with the connection, and then the session.
                    let _ = gone.changed().await;
                    break;
                }
                follower.state_changed().await;
            }
            _ = samples.tick() => follower.sample().await,
            _ = checks.tick() => follower.check(),
            Some(outcome) = follower.probing.next() => follower.probing.heard(outcome),
        }
    }
    drop(follower);
    let mut last = client.view();
    client.end().await;
    last.state = ClientState::Closed;
    last.ended = Some(Timestamp::now());
    last.measurements = client.measurements.list();
    notes.live.end(last.clone());
    notes.ended(&last);
}

/// What one client is followed with.
struct Follower {
    client: Arc<LiveClient>,
    notes: Arc<Notes>,
    probing: Probing,
    pairing: Pairing,
    judge: Judge,
    counted: PeerCounters,
    samples: u64,
    /// While what asks the client is being made, which it can delay.
    making: JoinSet<()>,
    /// Once the client is asked for the first time.
    first_look: Option<JoinSet<()>>,
}

impl Follower {
    fn new(client: Arc<LiveClient>, notes: Arc<Notes>) -> Self {
        Self {
            counted: client.session.total(),
            client,
            notes,
            probing: Probing::default(),
            pairing: Pairing::default(),
            judge: Judge::default(),
            samples: 0,
            making: JoinSet::new(),
            first_look: None,
        }
    }

    async fn state_changed(&mut self) {
        self.pairing.look(&self.client).await;
        self.notes.client(&self.client);
    }

    /// What asks the client, while it can be asked, and once there is one.
    fn prober(&mut self) -> Option<Arc<Prober>> {
        use ClientState::{Connected, Disconnected};

        if !matches!(self.client.state(), Connected | Disconnected) {
            return None;
        }
        let prober = self.client.prober();
        while self.making.try_join_next().is_some() {}
        if prober.is_none() && self.making.is_empty() {
            let client = Arc::clone(&self.client);
            self.making.spawn(async move {
                if let Err(error) = client.make_prober().await {
                    tracing::debug!(client = &*client.id, %error, "it cannot be asked");
                }
            });
        }
        prober
    }

    /// Asks the client, with the header that its own checks have.
    fn check(&mut self) {
        let Some(prober) = self.prober() else {
            return;
        };
        let overrides = self.client.session.options();
        let options = self.client.resolve(&overrides, PacketClass::Stun);
        self.probing.ask(&prober, options);
        if self.first_look.is_none() {
            let mut look = JoinSet::new();
            look.spawn(first_look(Arc::clone(&self.client), prober));
            self.first_look = Some(look);
        }
    }

    async fn sample(&mut self) {
        if self.pairing.look(&self.client).await {
            // What is asked has to go where the media goes.
            if let Some(prober) = self.client.prober() {
                let _ = prober.refresh().await;
            }
            self.notes.client(&self.client);
        }
        let client = &self.client;
        let counted = client.session.total();
        let checked = self.probing.take();
        let reported = client.reception.loss();
        let of_media = client.counters();
        let sample = sample(&self.counted, &counted, &of_media, &checked, reported);
        self.counted = counted;
        let second = Second {
            rtt: checked.rtt,
            jitter: checked.jitter,
            loss: sample.loss,
            silent: checked.loss == Some(1.0),
        };
        let verdict = self.judge.judge(client.state(), second);
        client.change_seen(|seen| {
            seen.verdict = verdict;
            seen.sample = Some(sample.clone());
        });
        self.notes.sample(client, &sample);
        self.samples += 1;
        if self.samples.is_multiple_of(KEEP) {
            self.notes.keep(&client.view());
        }
    }
}

/// What a client would want to know of its path, found out once, as soon as it is connected.
async fn first_look(client: Arc<LiveClient>, prober: Arc<Prober>) {
    let reach = ReachTtl::new(Arc::clone(&prober), ReachTtlConfig::default()).start();
    if let Ok(report) = reach.finish().await {
        let _ = keep_reach(&client, &report);
    }
    let mtu = PathMtu::new(prober, PathMtuConfig::default()).start();
    if let Ok(report) = mtu.finish().await {
        let _ = keep_path_mtu(&client, &report, false);
    }
}

/// `of_media` is what was counted of the address that media goes to: what comes from others takes another way.
fn sample(
    before: &PeerCounters,
    now: &PeerCounters,
    of_media: &PeerCounters,
    checked: &Checked,
    reported: Option<f64>,
) -> Sample {
    let classes = Rates::between(before, now);
    let milliseconds = |time: Duration| time.as_secs_f64() * 1e3;
    let (ttl, tos) = received(of_media, &classes);
    let mut sample = Sample {
        at: Timestamp::now(),
        rtt_ms: checked.rtt.map(milliseconds),
        jitter_ms: checked.jitter.map(milliseconds),
        loss: if checked.loss == Some(1.0) {
            // The last report is of a time when something still arrived.
            checked.loss
        } else {
            reported.or(checked.loss)
        },
        classes,
        received_ttl: ttl,
        received_tos: None,
        received_dscp: None,
        received_ecn: None,
        icmp: Icmp::between(before, now),
        dropped: classes
            .by_class()
            .iter()
            .map(|(_, class)| class.dropped)
            .sum(),
    };
    sample.set_received_tos(tos);
    sample
}

/// What packets of the client arrive with: those of its media, if there were any, or else of what there was.
fn received(counted: &PeerCounters, classes: &Rates) -> (Option<u8>, Option<Tos>) {
    const ORDER: [PacketClass; 4] = [
        PacketClass::Srtp,
        PacketClass::Dtls,
        PacketClass::Srtcp,
        PacketClass::Stun,
    ];
    let came = |class: &PacketClass| {
        let rates = classes.by_class();
        let of = rates.iter().find(|(of, _)| of == class);
        of.is_some_and(|(_, rates)| rates.received_packets > 0)
    };
    // Some may have come from another address only.
    let is_known = |class: &PacketClass| counted.class(*class).received > 0;
    let class = ORDER
        .into_iter()
        .find(|class| came(class) && is_known(class));
    class.map_or((None, None), |class| {
        let counters = counted.class(class);
        (counters.received_ttl, counters.received_tos)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counters(class: PacketClass, received: u64, ttl: u8) -> PeerCounters {
        let mut counters = PeerCounters::default();
        let of = &mut counters.classes[class.index()];
        (of.received, of.received_bytes) = (received, 100 * received);
        (of.received_ttl, of.received_tos) = (Some(ttl), Some(Tos::from_byte(184)));
        counters
    }

    #[test]
    fn a_sample_is_what_is_new() {
        let (before, now) = (
            counters(PacketClass::Srtp, 10, 60),
            counters(PacketClass::Srtp, 60, 57),
        );
        let checked = Checked {
            rtt: Some(Duration::from_micros(12_300)),
            jitter: None,
            loss: Some(0.2),
        };
        let sample = sample(&before, &now, &now, &checked, None);
        assert_eq!(sample.rtt_ms, Some(12.3));
        assert_eq!(sample.loss, Some(0.2));
        assert_eq!(sample.classes.srtp.received_packets, 50);
        assert_eq!(sample.classes.srtp.received_bytes, 5_000);
        assert_eq!(sample.received_ttl, Some(57));
        assert_eq!(sample.received_dscp.as_deref(), Some("EF"));
        assert_eq!(sample.received_ecn.as_deref(), Some("not-ect"));
    }

    #[test]
    fn the_media_says_how_packets_arrive_while_it_flows() {
        let nothing = PeerCounters::default();
        let silent = sample(&nothing, &nothing, &nothing, &Checked::default(), Some(0.5));
        assert_eq!((silent.received_ttl, silent.received_tos), (None, None));
        assert_eq!(silent.loss, Some(0.5), "what the client says comes first");
        let gone = Checked {
            loss: Some(1.0),
            ..Checked::default()
        };
        let cut_off = sample(&nothing, &nothing, &nothing, &gone, Some(0.0));
        assert_eq!(cut_off.loss, Some(1.0), "what it said before is over");
        let now = counters(PacketClass::Stun, 5, 60);
        assert_eq!(received(&now, &Rates::between(&nothing, &now)).0, Some(60));
    }

    #[test]
    fn what_comes_another_way_says_nothing_of_this_one() {
        let nothing = PeerCounters::default();
        let all = counters(PacketClass::Srtp, 5, 50);
        let rates = Rates::between(&nothing, &all);
        assert_eq!(received(&nothing, &rates), (None, None));
        let of_media = counters(PacketClass::Srtp, 2, 60);
        assert_eq!(received(&of_media, &rates).0, Some(60));
    }
}

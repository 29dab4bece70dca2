//! Makes changes, asks whether they work, and takes them back.

use std::{sync::Arc, time::Duration};

use perpacket_webrtc::{
    Overrides, PacketClass, Probe, ProbeResult, Prober,
    udp::{MessageOptions, OptionsError},
};
use tokio::{
    task::JoinSet,
    time::{Instant, MissedTickBehavior, interval},
};

use super::{
    Reason, State, Watch, Watching, options_of,
    watch::{Decision, Header, SILENCE},
};
use crate::{
    live::LiveClient,
    model::{self, GuardState, Timestamp},
    notes::{By, Notes},
};

/// How often the client is asked.
const EVERY: Duration = Duration::from_millis(500);

/// After what time without an answer a check is forgotten: a path that is slow is none that is cut off.
const TIMEOUT: Duration = SILENCE;

/// The classes of packets whose options can be set here.
const CLASSES: [PacketClass; 4] = [
    PacketClass::Stun,
    PacketClass::Dtls,
    PacketClass::Srtp,
    PacketClass::Srtcp,
];

/// Changes options of a client, and watches the change from then on, in place of the one before.
///
/// # Errors
/// The field that is out of range; nothing is changed then.
pub(crate) fn change(
    client: &Arc<LiveClient>,
    notes: &Arc<Notes>,
    by: &By,
    class: Option<PacketClass>,
    revert_after: Option<Duration>,
    apply: impl FnOnce(&Overrides) -> Result<Overrides, OptionsError>,
) -> Result<(), OptionsError> {
    let mut state = client.guarding.lock();
    let now = client.session.options();
    let after = apply(&now)?;
    client.session.replace_options(&after)?;
    if state.ended {
        return Ok(());
    }
    let before = good_before(&mut state, &now);

    let headers = headers(client, &before, &after);
    let watch = Watch::new(Instant::now(), headers.len(), revert_after);
    state.number += 1;
    let number = state.number;
    let since = Timestamp::now();
    state.view = Some(model::Guard {
        state: GuardState::Watching,
        since,
        until: revert_after.map(|time| since.after(time)),
        reason: None,
        before: (&before).into(),
    });
    let task = tokio::spawn(drive(
        Arc::clone(client),
        Arc::clone(notes),
        number,
        watch,
        headers,
    ));
    state.watching = Some(Watching {
        task: task.abort_handle(),
        before,
        proved: false,
    });
    let changed = changed(&now, &after, class);
    // Before anybody makes another change: they are told in the order in which they are made.
    notes.changed(client, by, &changed, state.view.as_ref(), None);
    Ok(())
}

/// What to go back to. While the change before is not proved, that is what was there before it.
fn good_before(state: &mut State, now: &Overrides) -> Overrides {
    match state.watching.take() {
        Some(Watching {
            task,
            before,
            proved,
        }) => {
            task.abort();
            if proved { now.clone() } else { before }
        }
        None => now.clone(),
    }
}

/// What differs, by class; of a change that differs in nothing, what it was about.
fn changed(
    before: &Overrides,
    after: &Overrides,
    about: Option<PacketClass>,
) -> Vec<(Option<PacketClass>, MessageOptions, MessageOptions)> {
    let classes = [None].into_iter().chain(CLASSES.map(Some));
    let all = classes.map(|class| (class, options_of(before, class), options_of(after, class)));
    let mut changed: Vec<_> = all.filter(|(_, before, after)| before != after).collect();
    if changed.is_empty() {
        changed.push((about, options_of(before, about), options_of(after, about)));
    }
    changed
}

/// The headers that a change makes, and which each of them replaces.
#[derive(Debug)]
struct Replaced {
    old: MessageOptions,
    new: MessageOptions,
    /// The first class that has it.
    class: PacketClass,
    /// Whether all classes have it.
    of_all: bool,
}

fn headers(client: &LiveClient, before: &Overrides, after: &Overrides) -> Vec<Replaced> {
    let mut headers: Vec<Replaced> = Vec::new();
    let mut classes_with = Vec::new();
    for class in CLASSES {
        let (old, new) = (client.resolve(before, class), client.resolve(after, class));
        if old == new {
            continue;
        }
        let same = headers.iter().position(|it| (it.old, it.new) == (old, new));
        if let Some(same) = same {
            classes_with[same] += 1;
        } else {
            classes_with.push(1);
            headers.push(Replaced {
                old,
                new,
                class,
                of_all: false,
            });
        }
    }
    for (header, classes) in headers.iter_mut().zip(classes_with) {
        header.of_all = classes == CLASSES.len();
    }
    headers
}

async fn drive(
    client: Arc<LiveClient>,
    notes: Arc<Notes>,
    number: u64,
    mut watch: Watch,
    headers: Vec<Replaced>,
) {
    let mut tick = interval(EVERY);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut checks = JoinSet::new();
    loop {
        tokio::select! {
            Some(checked) = checks.join_next() => {
                if let Ok(Some((header, which))) = checked {
                    watch.answered(Instant::now(), header, which);
                    if watch.is_proved() {
                        prove(&client, number);
                    }
                }
            }
            _ = tick.tick() => {
                // It is made by who follows the client. The end of the change's time waits for nothing.
                match client.prober() {
                    Some(prober) if is_connected(&client) => ask(&mut checks, &prober, &headers),
                    _ => watch.cannot_ask(Instant::now()),
                }
                match watch.decide(Instant::now()) {
                    Decision::Watch => {}
                    Decision::Keep => return keep(&client, &notes, number),
                    Decision::Revert(reason) => {
                        return revert(&client, &notes, number, reason, &headers);
                    }
                }
            }
        }
    }
}

/// A client that ICE has given up hope of for the moment is asked, too: that is what is watched for.
fn is_connected(client: &LiveClient) -> bool {
    use model::ClientState::{Connected, Disconnected};

    matches!(client.state(), Connected | Disconnected)
}

fn ask(checks: &mut JoinSet<Option<(usize, Header)>>, prober: &Arc<Prober>, headers: &[Replaced]) {
    for (number, header) in headers.iter().enumerate() {
        for (which, options) in [(Header::New, header.new), (Header::Old, header.old)] {
            let prober = Arc::clone(prober);
            checks.spawn(async move {
                let probe = Probe::new().with_options(options).with_timeout(TIMEOUT);
                let outcome = prober.probe(probe).await.ok()?;
                matches!(outcome.result, ProbeResult::Answered(_)).then_some((number, which))
            });
        }
    }
}

fn prove(client: &LiveClient, number: u64) {
    let mut state = client.guarding.lock();
    if state.number == number
        && let Some(watching) = &mut state.watching
    {
        watching.proved = true;
    }
}

fn keep(client: &LiveClient, notes: &Notes, number: u64) {
    let mut state = client.guarding.lock();
    if state.number != number {
        return;
    }
    state.watching = None;
    if let Some(view) = &mut state.view {
        view.state = GuardState::Kept;
    }
    notes.kept(client, state.view.as_ref());
}

fn revert(client: &LiveClient, notes: &Notes, number: u64, reason: Reason, headers: &[Replaced]) {
    let (by, text) = match reason {
        Reason::Timer => (By::Timer, "revert_after_s".to_owned()),
        Reason::Silence(header, time) => (By::Guard, silence(headers.get(header), time)),
    };
    let mut state = client.guarding.lock();
    if state.number != number {
        return;
    }
    let Some(Watching { before, .. }) = state.watching.take() else {
        return;
    };
    let now = client.session.options();
    // It was in force before, so it is in range.
    if let Err(error) = client.session.replace_options(&before) {
        tracing::error!(%error, "options cannot be taken back");
    }
    if let Some(view) = &mut state.view {
        view.state = GuardState::Reverted;
        view.reason = Some(text.clone());
    }
    let changed = changed(&now, &before, None);
    notes.changed(client, &by, &changed, state.view.as_ref(), Some(&text));
}

fn silence(header: Option<&Replaced>, time: Duration) -> String {
    let seconds = time.as_secs();
    match header {
        Some(Replaced {
            class,
            of_all: false,
            ..
        }) => format!("no consent for {seconds} s with the header of {class}"),
        _ => format!("no consent for {seconds} s"),
    }
}

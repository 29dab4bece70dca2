//! What happens to clients, noted for those who look on now, and for history.

use std::{net::IpAddr, sync::Arc};

use perpacket_webrtc::{PacketClass, udp::MessageOptions};
use serde_json::{Value, json};

use crate::{
    api::Metrics,
    history::{self, Entry, History},
    live::{Live, LiveClient},
    model::{self, AuditEntry, MeasurementInfo, Sample, Timestamp},
};

/// Who does something.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum By {
    /// Whoever has the token; the label tells tokens apart.
    Token {
        label: Arc<str>,
        from: Option<IpAddr>,
    },
    /// This server, because a change has cut a client off.
    Guard,
    /// This server, because the time of a change is over.
    Timer,
}

impl By {
    /// `token`, `guard` or `timer`.
    fn kind(&self) -> &'static str {
        match self {
            Self::Token { .. } => "token",
            Self::Guard => "guard",
            Self::Timer => "timer",
        }
    }

    fn name(&self) -> String {
        match self {
            Self::Token { label, .. } => format!("token:{label}"),
            Self::Guard | Self::Timer => self.kind().to_owned(),
        }
    }

    fn from(&self) -> Option<IpAddr> {
        match self {
            Self::Token { from, .. } => *from,
            Self::Guard | Self::Timer => None,
        }
    }
}

/// A change of the options of a class, or of all: before and after.
pub(crate) type Changed = (Option<PacketClass>, MessageOptions, MessageOptions);

/// Tells everybody, and history.
#[derive(Debug)]
pub(crate) struct Notes {
    pub(crate) live: Arc<Live>,
    pub(crate) history: Option<History>,
    pub(crate) metrics: Metrics,
}

impl Notes {
    fn record(&self, entry: impl FnOnce() -> Entry) {
        if let Some(history) = &self.history {
            history.record(entry());
        }
    }

    /// A client came, or something about it is new.
    pub(crate) fn client(&self, client: &LiveClient) {
        let view = client.view();
        self.live.events.tell("client", Some(&client.id), &view);
        self.keep(&view);
    }

    /// A client has ended.
    pub(crate) fn ended(&self, last: &model::Client) {
        let id = Arc::from(last.id.as_str());
        self.live.events.tell("client", Some(&id), last);
        self.keep(last);
    }

    /// Keeps what is known of a client, without telling anybody.
    pub(crate) fn keep(&self, view: &model::Client) {
        self.record(|| {
            Entry::Client(history::Client {
                id: view.id.clone(),
                name: view.name.clone(),
                user_agent: view.user_agent.clone(),
                address: view.client.map(|address| address.to_string()),
                since: view.since.millis(),
                ended: view.ended.map(Timestamp::millis),
                state: word(&view.state),
                data: value(view),
            })
        });
    }

    pub(crate) fn sample(&self, client: &LiveClient, sample: &Sample) {
        let options = client.options();
        let data = json!({
            "client": &*client.id,
            "sample": sample,
            "verdict": client.change_seen(|seen| seen.verdict.clone()),
            "applied": options.applied,
        });
        self.live.events.tell("sample", Some(&client.id), &data);
        // History remembers more, and a thousand clients have a hundred megabytes of them.
        if self.history.is_none() {
            client.recent.sample(sample);
        }
        self.metrics.sample(sample);
        self.record(|| {
            Entry::Sample(history::Sample {
                client: client.id.to_string(),
                at: sample.at.millis(),
                data: value(sample),
            })
        });
    }

    /// Options have been changed, by whom and why.
    pub(crate) fn changed(
        &self,
        client: &LiveClient,
        by: &By,
        changed: &[Changed],
        guard: Option<&model::Guard>,
        reason: Option<&str>,
    ) {
        let at = Timestamp::now();
        self.options(client, by, guard, at);
        let options = |options: &MessageOptions| value(&model::Options::from(*options));
        for (class, before, after) in changed {
            let change = model::Change {
                at,
                by: by.name(),
                class: class.map(|class| class.to_string()),
                before: (*before).into(),
                after: (*after).into(),
                reason: reason.map(str::to_owned),
            };
            self.record(|| {
                Entry::Change(history::Change {
                    client: client.id.to_string(),
                    at: at.millis(),
                    by: change.by.clone(),
                    class: change.class.clone(),
                    before: options(before),
                    after: options(after),
                    reason: change.reason.clone(),
                })
            });
            if self.history.is_none() {
                client.recent.change(change);
            }
        }
        let action = match by {
            By::Token { .. } => "options.set",
            By::Guard | By::Timer => {
                self.metrics.reverted();
                "options.reverted"
            }
        };
        let list: Vec<_> = changed
            .iter()
            .map(|(class, before, after)| {
                json!({
                    "class": class.map(PacketClass::as_str),
                    "before": options(before),
                    "after": options(after),
                })
            })
            .collect();
        let until = guard
            .and_then(|guard| guard.until)
            .filter(|_| reason.is_none());
        let detail = json!({ "changes": list, "until": until, "reason": reason });
        self.audit(by, action, Some(&client.id), detail);
    }

    /// A change has proved to work.
    pub(crate) fn kept(&self, client: &LiveClient, guard: Option<&model::Guard>) {
        self.options(client, &By::Guard, guard, Timestamp::now());
    }

    fn options(&self, client: &LiveClient, by: &By, guard: Option<&model::Guard>, at: Timestamp) {
        let asked = model::Asked::from(&client.session.options());
        let data = json!({
            "client": &*client.id,
            "asked": asked,
            "guard": guard,
            "by": by.kind(),
            "at": at,
        });
        self.live.events.tell("options", Some(&client.id), &data);
    }

    /// Somebody did something.
    pub(crate) fn audit(&self, by: &By, action: &str, client: Option<&Arc<str>>, detail: Value) {
        let entry = AuditEntry {
            at: Timestamp::now(),
            by: by.name(),
            from: by.from(),
            action: action.to_owned(),
            client: client.map(ToString::to_string),
            detail,
        };
        self.live.events.tell("audit", client, &entry);
        self.live.remember(&entry);
        self.record(|| {
            Entry::Audit(history::Audit {
                at: entry.at.millis(),
                by: entry.by,
                from: entry.from.map(|from| from.to_string()),
                action: entry.action,
                client: entry.client,
                detail: entry.detail,
            })
        });
    }

    /// A measurement began or ended.
    pub(crate) fn measurement(
        &self,
        client: &Arc<str>,
        info: &MeasurementInfo,
        report: Option<&Value>,
    ) {
        self.live.events.tell("measurement", Some(client), info);
        self.record(|| {
            Entry::Measurement(history::Measurement {
                id: info.id.clone(),
                client: info.client.clone(),
                kind: info.kind.clone(),
                state: word(&info.state),
                started: info.started.millis(),
                ended: info.ended.map(Timestamp::millis),
                config: info.config.clone(),
                error: info.error.clone(),
                report: report.cloned(),
            })
        });
    }

    /// A measurement has found something; it is kept under `name`, in place of what was there.
    pub(crate) fn row(&self, client: &Arc<str>, info: &MeasurementInfo, name: &str, event: &Value) {
        let data = json!({
            "client": &**client,
            "measurement": info.id,
            "kind": info.kind,
            "event": event,
        });
        self.live.events.tell("row", Some(client), &data);
        self.record(|| {
            Entry::MeasurementRow(history::MeasurementRow {
                measurement: info.id.clone(),
                name: name.to_owned(),
                at: Timestamp::now().millis(),
                data: event.clone(),
            })
        });
    }
}

fn value(of: &impl serde::Serialize) -> Value {
    serde_json::to_value(of).unwrap_or_else(|error| {
        tracing::error!(%error, "something has no JSON");
        Value::Null
    })
}

/// What a state is called.
fn word(of: &impl serde::Serialize) -> String {
    value(of).as_str().unwrap_or_default().to_owned()
}

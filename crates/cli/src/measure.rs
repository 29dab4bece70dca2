//! What all measurements have in common: join, measure, print while it runs, print the result, leave.

use std::{io::ErrorKind, sync::Arc};

use anyhow::{Context as _, Result, anyhow};
use clap::Args as ClapArgs;
use perpacket_path::{MeasureError, Running};
use perpacket_webrtc::{Prober, udp::MessageOptions};
use serde::Serialize;
use tokio::time::timeout;

use crate::{
    args::Join,
    client::Client,
    exit::{Lost, Outcome},
    interrupt::Interrupt,
    output::{Format, OutputArgs, csv, json},
    session::SessionLine,
};

/// What every measurement can be told.
#[derive(Clone, Debug, ClapArgs)]
pub(crate) struct Common {
    #[command(flatten)]
    pub(crate) join: Join,

    #[command(flatten)]
    pub(crate) output: OutputArgs,
}

/// How a measurement is printed.
pub(crate) trait Show {
    type Event: Serialize;
    type Report: Serialize;
    type Row: Serialize;

    /// While it runs, however it is printed.
    fn seen(&mut self, event: &Self::Event) {
        let _ = event;
    }

    /// For people, while it runs.
    fn event(&mut self, event: &Self::Event) -> Result<()>;

    /// For people, when it is done.
    fn report(&mut self, report: &Self::Report) -> Result<()>;

    /// For CSV.
    fn rows(&self, report: &Self::Report) -> Vec<Self::Row>;

    /// How the program ends.
    fn outcome(&self, report: &Self::Report) -> Outcome;
}

/// A session that is measured.
pub(crate) struct Measured {
    pub(crate) client: Client,
    pub(crate) prober: Arc<Prober>,
    pub(crate) interrupt: Interrupt,
    pub(crate) format: Format,
    /// Whether CSV has its header.
    has_header: bool,
}

impl Measured {
    /// Joins, does what is to be done, and leaves, whatever has become of it.
    pub(crate) async fn with(
        common: &Common,
        measure: impl AsyncFnOnce(&mut Self) -> Result<Outcome>,
    ) -> Result<Outcome> {
        let mut interrupt = Interrupt::install()?;
        let client = Client::join(&common.join, &mut interrupt).await?;
        // webrtc-rs locks its local description until SCTP is there.
        let prober = tokio::select! {
            prober = timeout(common.join.timeout, client.prober()) => {
                prober.unwrap_or_else(|_| Err(anyhow!("the server does not set up the data channel that it has accepted; --media-only offers none")))
            }
            () = interrupt.asked() => Err(anyhow!("interrupted")),
        };
        let prober = match prober {
            Ok(prober) => prober,
            Err(error) => {
                client.leave().await;
                return Err(error).context("the session cannot be measured");
            }
        };
        let mut measured = Self {
            client,
            prober,
            interrupt,
            format: common.output.format(),
            has_header: false,
        };
        let line = SessionLine::of(&measured.client).await;
        let outcome = match line.print(measured.format) {
            Ok(()) => measure(&mut measured).await,
            Err(error) => Err(error.into()),
        };
        measured.client.leave().await;
        outcome
    }

    /// Lets a measurement run to its end, or until somebody presses Ctrl-C or the connection is lost,
    /// which gives what there is.
    pub(crate) async fn show<S: Show>(
        &mut self,
        mut running: Running<S::Event, S::Report>,
        show: &mut S,
    ) -> Result<(S::Report, Outcome)> {
        let format = self.format;
        let lost = self.client.lost();
        tokio::pin!(lost);
        let (mut stopped, mut is_lost) = (false, false);
        loop {
            tokio::select! {
                event = running.next() => {
                    let Some(event) = event else { break };
                    show.seen(&event);
                    match format {
                        Format::Text => show.event(&event)?,
                        Format::Json => json("event", &event)?,
                        Format::Csv => {}
                    }
                }
                () = self.interrupt.asked(), if !stopped => {
                    stopped = true;
                    running.stop();
                }
                () = &mut lost, if !is_lost => {
                    (stopped, is_lost) = (true, true);
                    running.stop();
                }
            }
        }
        let report = match running.finish().await {
            Ok(report) => report,
            Err(error) if is_lost => return Err(explain(error).context(Lost)),
            Err(error) => return Err(explain(error)),
        };
        match format {
            Format::Text => show.report(&report)?,
            Format::Json => json("report", &report)?,
            Format::Csv => {
                let header = !std::mem::replace(&mut self.has_header, true);
                csv(show.rows(&report), header)?;
            }
        }
        if is_lost {
            eprintln!("The connection was lost.");
            return Ok((report, Outcome::NotReached));
        }
        let outcome = show.outcome(&report);
        Ok((report, outcome))
    }
}

/// Says what to do about it, where it is known.
pub(crate) fn explain(error: MeasureError) -> anyhow::Error {
    let is_refused = match &error {
        MeasureError::Unavailable { source, .. } => source.kind() == ErrorKind::PermissionDenied,
        _ => false,
    };
    let error = anyhow::Error::from(error);
    if is_refused {
        error.context("CAP_NET_RAW is missing: be root, or `setcap cap_net_raw+ep` this program")
    } else {
        error
    }
}

/// What else the header of probes says, for clap: the syntax of `--set` without the class, and without what
/// the measurement sets itself.
pub(crate) fn parse_probes(text: &str) -> Result<MessageOptions, String> {
    let (_, options) = crate::set::parse(&format!("stun:{text}"))?;
    if options.ttl.is_some() {
        return Err("the TTL of probes is what the measurement sets".to_owned());
    }
    Ok(options)
}

/// The same where DF is set too.
pub(crate) fn parse_marks(text: &str) -> Result<MessageOptions, String> {
    let options = parse_probes(text)?;
    if options.df_bit.is_some() {
        return Err("the DF bit of probes is what the measurement sets".to_owned());
    }
    Ok(options)
}

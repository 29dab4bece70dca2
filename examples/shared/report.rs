use std::fmt;

use serde::Serialize;

use crate::{Addresses, Direction, Header, Row, Seen, Values, table};

/// What a peer connection gave to the application.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Arrived {
    /// Data-channel messages.
    pub messages: u64,
    /// RTP packets of audio.
    pub audio: u64,
    /// RTP packets of video.
    pub video: u64,
}

impl Arrived {
    /// What came after `before`.
    #[must_use]
    pub fn since(self, before: Self) -> Self {
        Self {
            messages: self.messages - before.messages,
            audio: self.audio - before.audio,
            video: self.video - before.video,
        }
    }

    /// Whether something of everything arrived.
    #[must_use]
    pub fn of_everything(self) -> bool {
        self.messages > 0 && self.audio > 0 && self.video > 0
    }
}

impl fmt::Display for Arrived {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            messages,
            audio,
            video,
        } = self;
        write!(f, "{messages} messages, {audio} audio, {video} video")
    }
}

/// Everything, for people or as JSON.
#[derive(Debug, Serialize)]
pub struct Report {
    /// Whether every datagram was as asked, and something of everything was seen and arrived.
    pub ok: bool,
    datagrams: usize,
    wrong: usize,
    ipv6: bool,
    sees_df: bool,
    phases: Vec<PhaseReport>,
}

/// One phase.
#[derive(Debug, Serialize)]
pub struct PhaseReport {
    phase: &'static str,
    rows: Vec<RowReport>,
    arrived_at_alice: Arrived,
    arrived_at_bob: Arrived,
}

#[derive(Debug, Serialize)]
struct RowReport {
    class: &'static str,
    direction: &'static str,
    datagrams: usize,
    wrong: usize,
    asked: Option<Header>,
    seen: Values,
    verdict: String,
    #[serde(skip)]
    asked_cells: [String; 3],
}

impl PhaseReport {
    /// Compares each datagram of a phase with the row that is about it.
    #[must_use]
    pub fn judge<'a>(
        phase: &'static str,
        asked: &[Row],
        seen: impl Iterator<Item = &'a Seen>,
        addresses: Addresses,
        arrived: [Arrived; 2],
    ) -> Self {
        let mut rows: Vec<_> = asked.iter().map(RowReport::new).collect();
        let mut unexpected = RowReport::unexpected();
        for seen in seen {
            match asked.iter().position(|row| row.is_about(seen, addresses)) {
                Some(index) => {
                    let fits = asked[index].asked.is_met_by(seen.header);
                    rows[index].add(seen.header, fits);
                }
                None => unexpected.add(seen.header, false),
            }
        }
        if unexpected.datagrams > 0 {
            rows.push(unexpected);
        }
        let [arrived_at_alice, arrived_at_bob] = arrived;
        Self {
            phase,
            rows,
            arrived_at_alice,
            arrived_at_bob,
        }
    }
}

impl RowReport {
    fn new(row: &Row) -> Self {
        Self {
            class: row.traffic.name,
            direction: match row.direction {
                None => "both",
                Some(Direction::AliceToBob) => "alice → bob",
                Some(Direction::BobToAlice) => "bob → alice",
            },
            datagrams: 0,
            wrong: 0,
            asked: Some(row.asked.expected()),
            seen: Values::default(),
            verdict: String::new(),
            asked_cells: row.asked.cells(),
        }
    }

    /// What no row of the phase is about.
    fn unexpected() -> Self {
        Self {
            class: "unexpected",
            direction: "both",
            datagrams: 0,
            wrong: 0,
            asked: None,
            seen: Values::default(),
            verdict: String::new(),
            asked_cells: <[String; 3]>::default(),
        }
    }

    fn add(&mut self, header: Header, fits: bool) {
        self.datagrams += 1;
        self.wrong += usize::from(!fits);
        self.seen.add(header);
    }

    fn judge(&self, df_is_visible: bool) -> String {
        match self {
            Self { datagrams: 0, .. } => "NOT SEEN".to_owned(),
            Self { wrong: 0, .. } if df_is_visible => "ok".to_owned(),
            Self { wrong: 0, .. } => "ok, DF not visible".to_owned(),
            Self { wrong, .. } => format!("MISMATCH in {wrong}"),
        }
    }
}

impl Report {
    /// Sums the phases up.
    #[must_use]
    pub fn new(mut phases: Vec<PhaseReport>, ipv6: bool, sees_df: bool) -> Self {
        for row in phases.iter_mut().flat_map(|phase| &mut phase.rows) {
            row.verdict = row.judge(sees_df || ipv6);
        }
        let rows = || phases.iter().flat_map(|phase| &phase.rows);
        let wrong = rows().map(|row| row.wrong).sum();
        let ok = wrong == 0
            && rows().all(|row| row.datagrams > 0)
            && phases.iter().all(|phase| {
                phase.arrived_at_alice.of_everything() && phase.arrived_at_bob.of_everything()
            });
        Self {
            ok,
            datagrams: rows().map(|row| row.datagrams).sum(),
            wrong,
            ipv6,
            sees_df,
            phases,
        }
    }

    /// Prints it for people.
    pub fn print(&self) {
        let mut table = table(&[
            "phase",
            "class",
            "direction",
            "packets",
            "TTL",
            "DF",
            "TOS",
            "TTL seen",
            "DF seen",
            "TOS seen",
            "verdict",
        ]);
        for phase in &self.phases {
            let mut name = phase.phase;
            for row in &phase.rows {
                let mut cells = vec![name.into(), row.class.into(), row.direction.into()];
                cells.push(row.datagrams.to_string());
                cells.extend(row.asked_cells.clone());
                cells.extend(row.seen.cells());
                cells.push(row.verdict.clone());
                table.add_row(cells);
                name = "";
            }
        }
        println!("{}\n", table.trim_fmt());
        println!("In parentheses: not asked for, so the system's default.");
        if self.ipv6 {
            println!("IPv6 has no DF bit.");
        }
        println!("What arrived, in data-channel messages and RTP packets:");
        for phase in &self.phases {
            println!(
                "  {}: alice got {}; bob got {}",
                phase.phase, phase.arrived_at_alice, phase.arrived_at_bob
            );
        }
        if !self.sees_df && !self.ipv6 {
            println!("DF was not visible: nothing is said of it.");
        }
        println!("{} datagrams, {} wrong", self.datagrams, self.wrong);
    }
}

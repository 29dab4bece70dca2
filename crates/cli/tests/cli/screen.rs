//! What a terminal shows of what is written to it.

/// The characters on a screen, as the sequences place them that ratatui writes (ECMA-48 §8.3).
#[derive(Debug)]
pub(crate) struct Screen {
    rows: Vec<Vec<char>>,
    at: (usize, usize),
    /// A sequence that has begun.
    sequence: Option<String>,
}

impl Screen {
    pub(crate) fn new(rows: usize, columns: usize) -> Self {
        Self {
            rows: vec![vec![' '; columns]; rows],
            at: (0, 0),
            sequence: None,
        }
    }

    pub(crate) fn rows(&self) -> impl Iterator<Item = String> {
        self.rows.iter().map(|row| row.iter().collect())
    }

    /// Returns whether a picture is complete: the cursor is hidden then.
    pub(crate) fn write(&mut self, character: char) -> bool {
        if let Some(mut sequence) = self.sequence.take() {
            sequence.push(character);
            let ends = sequence.len() > 1 && ('@'..='~').contains(&character);
            if ends || sequence.len() == 1 && character != '[' {
                self.obey(&sequence);
                return sequence == "[?25l";
            }
            self.sequence = Some(sequence);
            return false;
        }
        match character {
            '\x1b' => self.sequence = Some(String::new()),
            '\r' => self.at.1 = 0,
            '\n' => self.at.0 += 1,
            _ => {
                let cell = self.rows.get_mut(self.at.0);
                if let Some(cell) = cell.and_then(|row| row.get_mut(self.at.1)) {
                    *cell = character;
                }
                self.at.1 += 1;
            }
        }
        false
    }

    /// All but the cursor's place and the clearing of the screen is about colours and modes.
    fn obey(&mut self, sequence: &str) {
        if let Some(place) = sequence
            .strip_prefix('[')
            .and_then(|it| it.strip_suffix('H'))
        {
            let (row, column) = place.split_once(';').unwrap_or(("1", "1"));
            let number = |text: &str| text.parse::<usize>().unwrap_or(1).saturating_sub(1);
            self.at = (number(row), number(column));
        } else if sequence == "[2J" {
            for row in &mut self.rows {
                row.fill(' ');
            }
        }
    }
}

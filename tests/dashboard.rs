//! The pages of the server in Chromium: somebody is measured by one browser, and an operator looks on and changes things
//! with another. Two routers are between them, and a link that carries less than the others.
//!
//! Pictures of what is seen are written to `target/screenshots`.

#[path = "api/mod.rs"]
mod api;
#[path = "clients/mod.rs"]
mod clients;
mod dashboard {
    pub(crate) mod appearance;
    pub(crate) mod keyboard;
    pub(crate) mod measured;
    pub(crate) mod measurements;
    pub(crate) mod options;
    pub(crate) mod page;
    pub(crate) mod scene;
    pub(crate) mod taken_back;
}
mod support;
#[path = "whip/mod.rs"]
mod whip;

use std::process::ExitCode;

use perpacket_lab::Test;
use support::hosts::Family;

use dashboard::{appearance, keyboard, measured, measurements, options, taken_back};

fn main() -> ExitCode {
    let tests: Vec<Test> = vec![
        (
            "who_is_measured_learns_how_it_is_and_why",
            measured::verdict,
        ),
        ("options_of_the_form_are_on_the_wire_v4", || {
            options::on_the_wire(Family::V4)
        }),
        ("options_of_the_form_are_on_the_wire_v6", || {
            options::on_the_wire(Family::V6)
        }),
        (
            "measurements_fill_in_and_outlast_a_reload",
            measurements::filled_in,
        ),
        ("what_cuts_off_is_taken_back", taken_back::ttl),
        ("the_keyboard_is_enough", keyboard::alone),
        ("pages_fit_and_do_not_complain", appearance::everywhere),
    ];
    perpacket_lab::main(tests)
}

//! What tests share that have browsers.

#![allow(dead_code, reason = "each test uses its part")]

pub(crate) mod browser;
pub(crate) mod home;
pub(crate) mod program;

//! What tests share that ask the REST API.

#![allow(dead_code, reason = "each test uses its part")]

pub(crate) mod operator;

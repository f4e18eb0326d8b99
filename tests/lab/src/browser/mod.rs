//! A real browser for checks: a headless Chromium, driven over WebDriver.
//!
//! [`Lab::browser`](crate::Lab::browser) gives a check a browser with a profile of its own. Its pages
//! are windows of that one browser: they share storage and cookies as two windows of a person do. Two
//! people are two browsers.
//!
//! # Who owns it
//! A check lives under a limit on its address space, in which no Chromium could start. So browsers
//! belong to the run's keeper, like brokers: a check connects to it, is told where a driver of its own
//! listens, and has it for as long as it keeps that connection. The connection ends with the check,
//! however that ends, and the keeper then ends the driver, the browser and their directory.
//!
//! # Waiting
//! [`click`](Page::click), [`type_into`](Page::type_into), [`text`](Page::text) and
//! [`until`](Page::until) wait by [`Lab::eventually`](crate::Lab::eventually); nothing else waits.

mod commands;
mod find;
mod lease;
mod page;
mod picture;
mod session;

pub use fantoccini::key::Key;
pub use find::{driver, is_packaged, programs};
pub use page::Page;
pub use session::Browser;

pub(crate) use lease::{Lease, Leased};
pub(crate) use picture::PICTURES;

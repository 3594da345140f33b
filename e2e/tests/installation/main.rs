//! The installation as a whole, which these tests take away from all others: they run after those, one at a time.

mod commands;
mod older;
mod rights;
mod uninstall;
mod webhook;

//! The installation as a whole, which these tests take away from all others: they run after those, one at a time.

mod commands;
mod rights;
mod uninstall;
mod webhook;

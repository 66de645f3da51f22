//! The function's way to a domain: a stand-in that checks each signature, and real servers behind it.

/// The stand-in, real servers behind it, and the signed way there.
mod support;

/// Real events, and hostile ones.
mod events;

/// The template on every engine, and what becomes of events under it.
mod engines;

/// The retention policy.
mod retention;

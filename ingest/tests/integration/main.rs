//! The function's parts over real sockets, in front of a stand-in domain that checks each signature on its own.

mod rig;

/// Every event is in the index once, or is said not to be, whatever the domain does.
mod delivery;

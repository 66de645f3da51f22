//! `_bulk` bodies, and what the replies say of each item.

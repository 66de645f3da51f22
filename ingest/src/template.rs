//! The index template and the retention policy, installed when absent or older.

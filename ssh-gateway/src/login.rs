//! Login names: which containers a client means.

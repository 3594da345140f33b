//! What programs ask the API server, with thousands of objects: API server and etcd alone, so that nobody else asks.

mod counted;
mod operator;
mod thousands;

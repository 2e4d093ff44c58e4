#![doc = include_str!("ARCHITECTURE.md")]

pub mod error;

pub mod wire;

pub mod config;

pub mod telemetry;

pub mod auth;

pub mod ring;

pub mod sql;

pub mod route;

pub mod backend;

pub mod pool;

pub mod merge;

pub mod execute;

pub mod txn;

pub mod session;

pub mod admin;

pub mod http;

pub mod demo;

pub mod app;

#![no_main]

jurist_fuzz::target!(requests);

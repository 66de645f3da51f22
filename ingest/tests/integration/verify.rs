mod bucket;
mod domain;
mod month;

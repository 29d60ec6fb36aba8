//! What Supabase Realtime's server is known to do wrong in its change pipeline, each as a test of
//! what is right. The numbers are those of the list of its weaknesses that this project was
//! started from; those that are a matter of speed alone are measured by the benchmarks.

mod confidentiality;
mod events;
mod load;

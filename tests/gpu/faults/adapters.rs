//! Which adapter is taken, what is said of it, and that threads may share any.

use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use jurist::gpu::{Class, Extent, Gpu, GpuOptions};
use jurist::ops::matmul::{self, Epilogue, Layout, Product};
use jurist::selftest::test_plan::{TestPlan, random};
use pollster::block_on;

use crate::cli::{Done, Task, finish, jurist, skip, succeed};

/// As a machine without a Vulkan driver has it.
fn without_vulkan(mut command: Command) -> Command {
    for name in ["VK_DRIVER_FILES", "VK_ICD_FILENAMES"] {
        command.env(name, "/nonexistent");
    }
    command.env_remove("JURIST_ADAPTER");
    command
}

/// `jurist doctor --list` without Vulkan, if OpenGL on the CPU is what is left.
fn opengl_alone() -> Option<Done> {
    let done = finish(without_vulkan(jurist(&["doctor", "--list"])));
    let alone = done.code == Some(0) && done.out.lines().any(|l| l.starts_with("chosen: ") && l.contains("(Gl, software"));
    alone.then_some(done)
}

#[test]
fn opengl_alone_is_taken_and_said_to_be_slow() {
    let Some(list) = opengl_alone() else { return skip("OpenGL on the CPU is not the adapter that is left without Vulkan") };
    let advice: Vec<&str> = list.out.lines().filter(|l| l.starts_with("advice: ")).collect();
    assert_eq!(advice.len(), 1, "{}", list.out);
    for part in ["OpenGL on the CPU", "534 s instead of 220", "apt-get install mesa-vulkan-drivers libvulkan1"] {
        assert!(advice[0].contains(part), "{}", advice[0]);
    }
    // A run says it once; who asks for OpenGL has made up their mind.
    let task = Task::new(4, 0, true);
    let warnings =
        |done: &Done| done.err.lines().filter(|l| l.starts_with("warning: ") && l.contains("OpenGL on the CPU")).count();
    let run = |output: &str, more: &[&str]| succeed(without_vulkan(task.train(output, &[&["--max-steps", "1"], more].concat())));
    assert_eq!(warnings(&run("by-itself", &[])), 1);
    assert_eq!(warnings(&run("asked", &["--adapter", "Gl"])), 0);
}

#[test]
fn vulkan_comes_before_opengl() {
    let mut command = jurist(&["doctor", "--list"]);
    command.env_remove("JURIST_ADAPTER");
    let done = finish(command);
    let places = |kind: &str| done.out.lines().position(|l| l.contains(kind));
    let (Some(vulkan), Some(opengl)) = (places("(Vulkan, software"), places("(Gl, software")) else {
        return skip("this machine does not have both");
    };
    assert!(vulkan < opengl && !done.out.contains("advice: "), "{}", done.out);
    let chosen = done.out.lines().find(|l| l.starts_with("chosen: ")).unwrap_or_default();
    assert!(!chosen.contains("(Gl, "), "{}", done.out);
}

/// wgpu waits six seconds for an OpenGL context that another thread is using, then panics.
#[test]
fn threads_share_an_opengl_device() {
    let adapters = block_on(Gpu::adapters());
    let Some(place) = adapters.iter().position(|a| a.backend == "Gl") else { return skip("there is no OpenGL adapter") };
    let gpu = block_on(Gpu::open_untested(&GpuOptions { adapter: Some(place.to_string()), ..GpuOptions::default() })).unwrap();
    let n = 256;
    let (a, b) = (random(n * n, 1), random(n * n, 2));
    let mut test = TestPlan::new(gpu.tuning());
    let tensors = [test.floats("a", &a), test.floats("b", &b), test.output("c", n * n)];
    matmul::record_product(&mut test.plan, Product::whole(Layout::Nt, tensors, [Extent::fixed(n as u32); 3], Epilogue::Write));
    let built = test.build_and_run(&gpu).unwrap();
    let first = block_on(built.read_floats(tensors[2])).unwrap();

    // One submission that takes longer than wgpu's patience.
    let times = |times: usize| {
        let began = Instant::now();
        built.plan.run_times(&built.params, times).unwrap();
        gpu.wait().unwrap();
        began.elapsed()
    };
    let one = (times(8) / 8).max(Duration::from_micros(20));
    let many = (7.5 / one.as_secs_f64()) as usize;
    let aliased = gpu.buffer("dropped elsewhere", 64).unwrap();
    thread::scope(|scope| {
        let busy = scope.spawn(|| times(many));
        thread::sleep(Duration::from_millis(300));
        let others = [
            scope.spawn(|| {
                let mine = gpu.buffer("of a thread", 64).unwrap();
                gpu.write(&mine, 0, &[7u32; 64]).unwrap();
                assert_eq!(block_on(gpu.read::<u32>(&mine, 0, 64)).unwrap(), [7; 64]);
            }),
            scope.spawn(|| drop(aliased)),
            scope.spawn(|| drop(TestPlan::new(gpu.tuning()).build_and_run(&gpu).unwrap())),
            scope.spawn(|| assert!(!block_on(Gpu::adapters()).is_empty())),
        ];
        for other in others {
            other.join().unwrap();
        }
        println!("one submission took {:?}", busy.join().unwrap());
    });
    assert_eq!(block_on(built.read_floats(tensors[2])).unwrap(), first);
    // The device's last owner is another thread.
    thread::spawn(move || drop((built, gpu))).join().unwrap();
}

/// Whoever embeds the library may read on another thread than the one that submitted.
#[test]
fn reads_may_move_between_threads() {
    fn moves(_: impl Send) {}
    let gpu = Gpu::dry_of(Class::Discrete, &GpuOptions::default()).unwrap();
    let buffer = gpu.buffer("b", 4).unwrap();
    moves(gpu.read::<u32>(&buffer, 0, 4));
}

package io.anytls.mobile.testing

import org.robolectric.shadows.ShadowLooper
import java.util.concurrent.TimeUnit
import java.util.concurrent.locks.LockSupport

/** How long a test waits for what has to come: generous, since it is waited for only where the test fails. */
val PATIENCE_NS: Long = TimeUnit.SECONDS.toNanos(20)

/** Runs the main thread's work until the condition holds. Called on the main thread, which tests are on. */
fun await(what: String, condition: () -> Boolean) {
    val deadline = System.nanoTime() + PATIENCE_NS
    while (true) {
        ShadowLooper.idleMainLooper()
        if (condition()) return
        if (System.nanoTime() > deadline) throw AssertionError("waited in vain: $what")
        LockSupport.parkNanos(TURN_NS)
    }
}

private val TURN_NS = TimeUnit.MILLISECONDS.toNanos(2)

package io.anytls.mobile

import java.util.concurrent.TimeUnit
import java.util.concurrent.locks.LockSupport

/** Longer than any machine needs: only a hang reaches it. */
internal const val PATIENCE_SECONDS = 60L

private val GLANCE_NANOS = TimeUnit.MILLISECONDS.toNanos(2)

/** What [look] finds, looking until it is not null. */
internal inline fun <T : Any> eventually(what: String, look: () -> T?): T {
    val deadline = System.nanoTime() + TimeUnit.SECONDS.toNanos(PATIENCE_SECONDS)
    while (true) {
        look()?.let { return it }
        if (System.nanoTime() > deadline) throw AssertionError("not within $PATIENCE_SECONDS s: $what")
        LockSupport.parkNanos(GLANCE_NANOS)
    }
}

internal inline fun waitUntil(what: String, isTrue: () -> Boolean) {
    eventually(what) { if (isTrue()) Unit else null }
}

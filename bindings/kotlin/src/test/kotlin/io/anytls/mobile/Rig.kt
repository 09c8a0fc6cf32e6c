package io.anytls.mobile

import com.sun.jna.Native
import kotlinx.coroutines.runBlocking
import org.junit.jupiter.api.Assertions.assertEquals
import org.junit.jupiter.api.Assertions.assertInstanceOf
import org.junit.jupiter.api.Assertions.assertTrue

/** A tunnel, the TUN that it was started with, and what it says. */
internal class Rig(val tunnel: Tunnel, val tun: PacketTun, val ears: Ears)

/** Runs a tunnel over a TUN made of sockets, and stops it after [body]. */
internal fun withTunnel(config: String, platform: Platform? = null, body: suspend Rig.() -> Unit) = runBlocking {
    Tunnel(platform).use { tunnel ->
        PacketTun().use { tun ->
            val ears = Ears()
            tunnel.subscribe(ears, null)
            tunnel.start(config, tun.fd)
            Rig(tunnel, tun, ears).body()
            tunnel.stop()
        }
    }
}

/** What the app may do for the tunnel, as far as a test says. */
internal class AppPlatform(
    private val protectSocket: (Int) -> Boolean = { true },
    private val resolveName: (String) -> List<String>? = { null },
) : Platform {
    override fun protect(socket: Int) = protectSocket(socket)

    override fun resolve(host: String) = resolveName(host)
}

/** What [call] throws: of that kind, with that code and advice, words for people, and no secrets. */
internal inline fun <reified T : TunnelException> assertFails(
    code: String,
    isRetryable: Boolean,
    crossinline call: suspend () -> Unit,
): T {
    val error = try {
        runBlocking { call() }
        throw AssertionError("expected ${T::class.simpleName}, and nothing was thrown")
    } catch (error: TunnelException) {
        assertInstanceOf(T::class.java, error) { "$error: ${error.failure()}" }
    }
    assertFailure(error.failure(), code, isRetryable)
    assertNoSecret("$error ${error.stackTraceToString()}")
    return error
}

internal fun assertFailure(failure: Failure, code: String, isRetryable: Boolean) {
    assertEquals(code, failure.code) { "$failure" }
    assertEquals(isRetryable, failure.isRetryable) { "$failure" }
    assertTrue(failure.userMessage.isNotBlank()) { "$failure" }
    assertTrue(failure.detail.isNotBlank()) { "$failure" }
    assertNoSecret("$failure")
}

/** An error in a callback, as against an exception, ends with JNA, which would print it. */
internal fun withoutPrintedErrors(body: () -> Unit) {
    val before = Native.getCallbackExceptionHandler()
    Native.setCallbackExceptionHandler { _, _ -> }
    try {
        body()
    } finally {
        Native.setCallbackExceptionHandler(before)
    }
}

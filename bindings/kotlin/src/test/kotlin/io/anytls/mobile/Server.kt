package io.anytls.mobile

import java.io.DataInputStream
import java.io.DataOutputStream
import java.io.File
import java.io.IOException
import java.net.InetAddress
import java.net.InetSocketAddress
import java.net.ServerSocket
import java.net.Socket
import java.nio.ByteBuffer
import java.nio.channels.ServerSocketChannel
import java.nio.channels.SocketChannel
import java.util.concurrent.CompletableFuture
import java.util.concurrent.TimeUnit
import kotlin.concurrent.thread

/** The AnyTLS server that the program carries, as a process of its own on the loopback. */
internal class Server(port: Int = 0) : AutoCloseable {
    private val process = run {
        val program = File(System.getProperty("native.dir"), "anytls-mobile").path
        ProcessBuilder(program, "serve", "--listen", "127.0.0.1:$port", "--password", PASSWORD)
            .redirectErrorStream(true)
            .start()
    }

    val port: Int

    init {
        val listening = CompletableFuture<Int>()
        thread(isDaemon = true, name = "server's log") {
            val said = StringBuilder()
            process.inputStream.bufferedReader().forEachLine { line ->
                LISTENING.find(line)?.let { listening.complete(it.groupValues[1].toInt()) }
                if (!listening.isDone) said.appendLine(line)
            }
            listening.completeExceptionally(IOException("the server has ended: $said"))
        }
        this.port = listening.get(PATIENCE_SECONDS, TimeUnit.SECONDS)
    }

    override fun close() {
        process.destroy()
        if (!process.waitFor(PATIENCE_SECONDS, TimeUnit.SECONDS)) process.destroyForcibly()
    }

    private companion object {
        val LISTENING = Regex("""listening.*127\.0\.0\.1:(\d+)""")
    }
}

/** A TCP server in this process, on every address of the machine. [serve] gets each connection, on its own thread. */
internal open class Target(private val serve: (Socket) -> Unit) : AutoCloseable {
    private val listener = ServerSocket(0)

    val port: Int get() = listener.localPort

    init {
        thread(isDaemon = true, name = "target") {
            try {
                while (true) {
                    val connection = listener.accept()
                    thread(isDaemon = true, name = "target's connection") { attend(connection) }
                }
            } catch (_: IOException) {
                // closed
            }
        }
    }

    private fun attend(connection: Socket) {
        try {
            connection.use(serve)
        } catch (_: IOException) {
            // the peer's business
        }
    }

    override fun close() = listener.close()
}

/** Sends back what comes, and ends when the peer does. */
internal class EchoTarget :
    Target({ connection ->
        connection.getInputStream().transferTo(connection.getOutputStream())
        connection.shutdownOutput()
    })

/** Says that every name has the address [ADDRESS], over TCP. */
internal class NameServer :
    Target({ connection ->
        val questions = DataInputStream(connection.getInputStream())
        val answers = DataOutputStream(connection.getOutputStream())
        while (true) {
            val query = ByteArray(questions.readUnsignedShort()).also(questions::readFully)
            val answer = Packets.answer(query, ADDRESS)
            answers.writeShort(answer.size)
            answers.write(answer)
        }
    }) {
    companion object {
        const val ADDRESS = "192.0.2.7"
    }
}

/** A port that lets connections in and never says anything. */
internal class SilentPort : AutoCloseable {
    private val channel = ServerSocketChannel.open().apply {
        bind(InetSocketAddress(InetAddress.getLoopbackAddress(), 0))
        configureBlocking(false)
    }

    val port: Int get() = channel.socket().localPort

    /** The next connection, if one has come. */
    fun accept(): SocketChannel? = channel.accept()

    override fun close() = channel.close()
}

/** Waits until the peer has ended the connection. */
internal fun SocketChannel.awaitEnd() {
    val buffer = ByteBuffer.allocate(4096)
    try {
        do {
            val length = read(buffer.clear())
        } while (length >= 0)
    } catch (_: IOException) {
        // reset
    }
}

/** A port of the loopback on which nobody listens. */
internal fun deadPort(): Int = ServerSocket(0, 1, InetAddress.getLoopbackAddress()).use { it.localPort }

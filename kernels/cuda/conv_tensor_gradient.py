"""The kernel gradient on tensor cores, in tf32 or bf16 with float32 sums; the sum stands in `conv_kernel_gradient`.

As a matrix product: rows are filters, columns taps x channels, and the reduction runs over overlays. A block owns 32 or
64 filters x all taps (a row of them where the filter is large) x 32 channels, for a run of rectangles of 4 x 8 or 8 x 8
overlays. For each it brings to shared memory, rounded, the gradient of the rectangle, in the order in which lanes read
it, and the source that all taps meet there, channel by channel: a tap is an offset there. A word of bf16 holds the same
overlay of two images. The next rectangle comes in while one is multiplied, in steps of 2 x 8 overlays. Gradients are
read as they are (see `conv_tensor`).

A warp owns 32 filters x 8 channels x the taps: an eight of columns is a tap, its column g a channel (see `tensor`).
The bias gradient is the sum of what is read for the rows, not rounded. What happens at the end of a run is as in
`conv_kernel_gradient`.
"""

from __future__ import annotations

from functools import cache

from cnn.kernels.cuda.compiler import SIMULATED, Kernel, cuda, device, float32, pointer, uint32
from cnn.kernels.cuda.conv_gradient_plan import Plan
from cnn.kernels.cuda.conv_phase import ConvPhase
from cnn.kernels.cuda.conv_run_sums import ADD_THREADS, add_runs, rows_of_workspace, run_writers
from cnn.kernels.cuda.conv_tensor_rectangle import (
    CHANNELS,
    WIDTH,
    Rectangle,
    area,
    choose_rectangle,
    line,
    rectangles,
    serves,
    taps_of_block,
)
from cnn.kernels.cuda.conv_tensor_tile import WARP_ROWS
from cnn.kernels.cuda.conv_weights import weight_columns
from cnn.kernels.cuda.intrinsics import held, shuffle
from cnn.kernels.cuda.launch import Launch
from cnn.kernels.cuda.rounding import word_of
from cnn.kernels.cuda.side_by_side import alone
from cnn.kernels.cuda.tensor import NUMBERS, WORDS, address, product, put, put4
from cnn.kernels.cuda.tile import unpack, zeros

__all__ = ["plan", "serves"]

STEP_HEIGHT = WORDS // WIDTH  # of the rows of a rectangle that are multiplied together

# Blocks that give each of 132 multiprocessors one, whose registers it takes more than half of; more runs would only add
# atomics, which take longer than the products.
FULL_GRID = 132


def plan(phase: ConvPhase, images: int, precision: str, deterministic: bool) -> Plan:
    """Arguments and workspace: as of `conv_kernel_gradient.plan`; the length of a run counts rectangles."""
    rows = WARP_ROWS if SIMULATED or phase.targets <= WARP_ROWS else 2 * WARP_ROWS
    rectangle = choose_rectangle(phase, rows, precision)
    row_tiles = phase.groups * -(-phase.targets // rows)
    tiles = row_tiles * -(-phase.sources // CHANNELS) * (phase.taps // taps_of_block(phase))
    count = -(-images // NUMBERS[precision]) * rectangles(phase, rectangle)
    wanted = 2 if SIMULATED else max(FULL_GRID // tiles, 1)
    run = max(-(-count // wanted), 1)
    runs = -(-count // run)
    weights = phase.sources * phase.taps
    threads = rows // WARP_ROWS * CHANNELS // 8 * 32
    add = add_runs(phase.alone, rows, weights) if deterministic else None
    return Plan(
        gradient=Launch(_gradient(phase, precision, rows, rectangle, deterministic), (runs * tiles,), (threads,)),
        run=run,
        runs=runs,
        workspace=runs * row_tiles * rows_of_workspace(rows, weights) * weights if deterministic else 0,
        add=Launch(add, (-(-phase.groups * phase.targets * weights // ADD_THREADS),), (ADD_THREADS,)) if add else None,
    )


@cache
def _gradient(phase: ConvPhase, precision: str, rows: int, rectangle: Rectangle, deterministic: bool) -> Kernel:
    vertical, horizontal = phase.vertical, phase.horizontal
    IMAGES = NUMBERS[precision]  # of a word
    ROWS, ROW_WARPS = rows, rows // WARP_ROWS
    THREADS = ROW_WARPS * CHANNELS // 8 * 32
    TAPS, OWN_TAPS, TAPS_RIGHT = phase.taps, taps_of_block(phase), horizontal.taps
    TAP_TILES = TAPS // OWN_TAPS
    AREA_DOWN, AREA_RIGHT = area(phase, rectangle)
    AREA, LINE = AREA_DOWN * AREA_RIGHT, line(phase, rectangle)
    HEIGHT, POSITIONS, STEPS = rectangle.height, rectangle.positions, rectangle.height // STEP_HEIGHT
    FOUR_STEPS = STEPS == 4
    STEP, SOURCE = ROWS * WORDS, STEPS * ROWS * WORDS  # rows of a step; where the source begins
    HALF = SOURCE + CHANNELS * LINE
    OWN_WEIGHTS = 8 * OWN_TAPS  # of a warp, in a row
    EIGHT_ROWS = 8 * OWN_WEIGHTS
    BUFFER = max(2 * HALF, THREADS // 32 * EIGHT_ROWS)
    OWN = CHANNELS * POSITIONS // THREADS  # channels that a thread brings
    EIGHTS = tuple(
        (tap // TAPS_RIGHT * vertical.shift * AREA_RIGHT + tap % TAPS_RIGHT * horizontal.shift)
        for tap in range(OWN_TAPS)
    )
    NEXT_STEP = 4 * STEP_HEIGHT * AREA_RIGHT  # in bytes
    multiply = product(WARP_ROWS // 16, EIGHTS, precision, (0, 4, AREA_RIGHT, AREA_RIGHT + 4))
    SUMS_OF_ROW = OWN_TAPS * 2
    SUMS = 4 * SUMS_OF_ROW
    RECTANGLES, RIGHT_RECTANGLES = rectangles(phase, rectangle), -(-horizontal.size // WIDTH)
    SOURCES, TARGETS, GROUPS = phase.sources, phase.targets, phase.groups
    ROW_TILES, CHANNEL_TILES = -(-TARGETS // ROWS), -(-SOURCES // CHANNELS)
    COLUMN_TILES, ALL_ROW_TILES = CHANNEL_TILES * TAP_TILES, GROUPS * ROW_TILES
    TILES = COLUMN_TILES * ALL_ROW_TILES
    WHOLE_ROWS, WHOLE_CHANNELS = TARGETS % ROWS == 0, SOURCES % CHANNELS == 0
    P, Q = vertical.size, horizontal.size
    WHOLE_P, WHOLE_Q, G_PLANE = P % HEIGHT == 0, Q % WIDTH == 0, P * Q
    (H, W), TOP, LEFT = phase.source_size, vertical.start % 2**32, horizontal.start % 2**32
    TAPS_APART = vertical.shift  # rows of taps, where a block has one of them
    PLANE = H * W
    NEXT_G, NEXT_X = GROUPS * TARGETS * G_PLANE, GROUPS * SOURCES * PLANE  # from image to image
    WORDS_OF_ROWS = 4 * STEPS  # that a thread brings
    VALUES, PARTS = WORDS_OF_ROWS * IMAGES, OWN * IMAGES
    BIAS, word = phase.bias, word_of(precision)
    write, write_bias = run_writers(phase, ROWS, SOURCES * TAPS, deterministic)
    column_of, _, _ = weight_columns(phase)

    @device
    def fetch_rows(grad_output, at, i, j, m, pair, values):
        # Of each step rows m and m + 8, columns j and j + 4: the four words of a lane that are read together.
        for k in range(WORDS_OF_ROWS):
            down, right, below = k // 4 * STEP_HEIGHT, k // 2 % 2 * 4, k % 2 * 8
            real = (WHOLE_P or i + uint32(down) < uint32(P)) and (WHOLE_Q or j + uint32(right) < uint32(Q))
            real = real and (WHOLE_ROWS or m + uint32(below) < uint32(TARGETS))
            for n in range(IMAGES):
                value = float32(0)
                if real and (n == 0 or pair):
                    # Constants are added in 64 bits, where they become part of the load.
                    value = grad_output[at + uint32(down * Q + right + below * G_PLANE + n * NEXT_G)]
                values[k * IMAGES + n] = value

    @device
    def fetch_columns(x, at, inside, channel, pair, parts):
        for k in range(OWN):
            for n in range(IMAGES):
                value = float32(0)
                if inside and (n == 0 or pair) and (WHOLE_CHANNELS or channel + uint32(k) < uint32(SOURCES)):
                    value = x[at + uint32(k * PLANE + n * NEXT_X)]
                parts[k * IMAGES + n] = value

    @device
    def conv_tensor_gradient(block, arguments, shared):
        x, grad_output, _winners, _outputs, grad_weight, grad_bias, images, run = arguments
        # shared: two halves, of rows and then sources each
        sums = cuda.local.array(SUMS, float32)
        values = cuda.local.array(VALUES, float32)
        parts = cuda.local.array(PARTS, float32)

        thread = uint32(cuda.threadIdx.x)
        warp, lane = thread // uint32(32), thread % uint32(32)
        g, t = lane // uint32(4), lane % uint32(4)
        column_tile = uint32(block % uint32(COLUMN_TILES))
        row_tile = uint32(block // uint32(COLUMN_TILES) % uint32(ALL_ROW_TILES))
        group = row_tile // uint32(ROW_TILES)
        first_row = uint32(row_tile % uint32(ROW_TILES) * uint32(ROWS))
        first_channel = uint32(column_tile % uint32(CHANNEL_TILES) * uint32(CHANNELS))
        tap_tile = uint32(column_tile // uint32(CHANNEL_TILES))
        current = uint32(block // uint32(TILES) * run)
        there = uint32((images + uint32(IMAGES - 1)) // uint32(IMAGES) * uint32(RECTANGLES))
        end = min(uint32(current + run), there)

        # Of the rows a thread brings four words: of two rows and two columns, in the upper or lower row of a step.
        lower = warp % uint32(2)
        m = uint32(first_row + warp // uint32(2) * uint32(16) + g)
        row_at = (group * uint32(TARGETS) + m) * uint32(G_PLANE)
        row_at = held(uint32(row_at + lower * uint32(Q) + t))
        # Of the source one position for some channels.
        position = thread % uint32(POSITIONS)
        own_channel = uint32(first_channel + thread // uint32(POSITIONS) * uint32(OWN))
        own_h = uint32(position // uint32(AREA_RIGHT) + tap_tile * uint32(TAPS_APART) + uint32(TOP))
        own_w = uint32(position % uint32(AREA_RIGHT) + uint32(LEFT))
        column_at = (group * uint32(SOURCES) + own_channel) * uint32(PLANE)
        column_at = held(uint32(column_at + own_h * uint32(W) + own_w))
        if position >= uint32(AREA):
            own_h = uint32(0x40000000)  # nothing lies that far down
        own_h, own_w = held(own_h), held(own_w)
        put_rows = held(address(shared, uint32(thread * uint32(4))))
        place = uint32(thread // uint32(POSITIONS) * uint32(OWN * LINE) + position)
        put_columns = held(address(shared, uint32(place + uint32(SOURCE))))

        read_rows = uint32(warp % uint32(ROW_WARPS) * uint32(WARP_ROWS * WORDS) + lane * uint32(4))
        read_rows = held(address(shared, read_rows))
        own_eight = uint32(warp // uint32(ROW_WARPS) * uint32(8))
        read_columns = uint32((own_eight + g) * uint32(LINE) + t + uint32(SOURCE))
        read_columns = held(address(shared, read_columns))

        upper_sum = lower_sum = float32(0)
        tile = zeros(4, SUMS_OF_ROW)
        free = uint32(0)  # the half that the next rectangle goes to, in bytes
        started = False
        more = current < end
        while more or started:
            full = uint32(uint32(4 * HALF) - free)
            n = uint32(current // uint32(RECTANGLES) * uint32(IMAGES))
            top = uint32(current % uint32(RECTANGLES) // uint32(RIGHT_RECTANGLES) * uint32(HEIGHT))
            left = uint32(current % uint32(RIGHT_RECTANGLES) * uint32(WIDTH))
            pair = IMAGES == 2 and n + uint32(1) < images
            h, w = uint32(own_h + top), uint32(own_w + left)
            inside = h < uint32(H) and w < uint32(W)
            if more:
                # In brackets what is the same for both where they have as many channels and elements.
                at = uint32(row_at + uint32(n * uint32(NEXT_G) + top * uint32(Q) + left))
                fetch_rows(grad_output, held(at), uint32(top + lower), uint32(left + t), m, pair, values)
                at = uint32(column_at + uint32(n * uint32(NEXT_X) + top * uint32(W) + left))
                fetch_columns(x, held(at), inside, own_channel, pair, parts)
            if started:
                rows_at, columns_at = uint32(read_rows + full), uint32(read_columns + full)
                tile = multiply(tile, shared, rows_at, columns_at)
                rows_at, columns_at = uint32(rows_at + uint32(4 * STEP)), uint32(columns_at + uint32(NEXT_STEP))
                tile = multiply(tile, shared, rows_at, columns_at)
                if FOUR_STEPS:
                    rows_at, columns_at = uint32(rows_at + uint32(4 * STEP)), uint32(columns_at + uint32(NEXT_STEP))
                    tile = multiply(tile, shared, rows_at, columns_at)
                    rows_at, columns_at = uint32(rows_at + uint32(4 * STEP)), uint32(columns_at + uint32(NEXT_STEP))
                    tile = multiply(tile, shared, rows_at, columns_at)
            if more:
                if BIAS and column_tile == uint32(0):
                    for k in range(0, VALUES, 2 * IMAGES):
                        for number in range(IMAGES):
                            upper_sum += values[k + number]
                            lower_sum += values[k + IMAGES + number]
                for step in range(STEPS):
                    k = 4 * step
                    a, b, c, d = word(values, k), word(values, k + 1), word(values, k + 2), word(values, k + 3)
                    put4(shared, uint32(put_rows + free + uint32(step * 4 * STEP)), a, b, c, d)
                if AREA == POSITIONS or position < uint32(AREA):
                    to = uint32(put_columns + free)
                    for k in range(OWN):
                        put(shared, to, uint32(k * LINE), word(parts, k))
            cuda.syncthreads()
            free = full
            started = more
            current = uint32(current + uint32(1))
            more = current < end

        unpack(tile, sums)
        row_and_run = uint32(block // uint32(COLUMN_TILES))
        # Eight rows at a time go through shared memory, of each warp by themselves: neighbouring lanes then add to
        # neighbouring weights.
        own = uint32(warp * uint32(EIGHT_ROWS))
        for r in range(4):
            place = own + uint32(g * uint32(OWN_WEIGHTS) + t * uint32(2 * OWN_TAPS))
            for c in range(2):
                for tap in range(OWN_TAPS):
                    shared[place + uint32(c * OWN_TAPS + tap)] = sums[r * SUMS_OF_ROW + tap * 2 + c]
            cuda.syncthreads()
            first = uint32(warp % uint32(ROW_WARPS) * uint32(WARP_ROWS) + uint32(r * 8))
            i = lane
            while i < uint32(EIGHT_ROWS):
                row, weight = uint32(first + i // uint32(OWN_WEIGHTS)), uint32(i % uint32(OWN_WEIGHTS))
                channel = uint32(first_channel + own_eight + weight // uint32(OWN_TAPS))
                tap = uint32(tap_tile * uint32(OWN_TAPS) + weight % uint32(OWN_TAPS))
                value, e = shared[uint32(own + i)], column_of(channel, tap)
                write(grad_weight, row_and_run, group, first_row, row, e, channel, tap, value)
                i = uint32(i + uint32(32))
            cuda.syncthreads()
        if BIAS and column_tile == uint32(0):
            for distance in (1, 2):
                upper_sum += shuffle(upper_sum, lane ^ uint32(distance))
                lower_sum += shuffle(lower_sum, lane ^ uint32(distance))
            if t == uint32(0):
                place = uint32(lower * uint32(ROWS) + m - first_row)
                shared[place] = upper_sum
                shared[place + uint32(8)] = lower_sum
            cuda.syncthreads()
            if thread < uint32(ROWS):
                total = shared[thread] + shared[thread + uint32(ROWS)]
                write_bias(grad_bias, row_and_run, group, first_row, thread, total)

    real = pointer(float32)
    return alone(
        f"conv_kernel_gradient_{precision}",
        conv_tensor_gradient,
        (*(real,) * 6, uint32, uint32),
        THREADS,
        {"rows": ROWS, "channels": CHANNELS, "taps": OWN_TAPS, "height": HEIGHT},
        words=BUFFER,
    )

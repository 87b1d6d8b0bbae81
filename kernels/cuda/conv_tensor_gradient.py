"""The kernel gradient on tensor cores, in tf32 or bf16 with float32 sums; the sum stands in `conv_kernel_gradient`.

As a matrix product: rows are filters, columns taps x channels, and the reduction runs over overlays. A block owns 32 or
64 filters x all taps (a row of them where the filter is large) x 32 channels, for a run of rectangles of 4 x 8
overlays. For each it brings to shared memory, rounded, the gradient of the rectangle, in the order in which lanes read
it, and the source that all taps meet there, channel by channel: a tap is an offset there. A word of bf16 holds the same
overlay of two images. The next rectangle comes in while one is multiplied, in two steps of 2 x 8 overlays.

A warp owns 32 filters x 8 channels x the taps: an eight of columns is a tap, its column g a channel (see `tensor`).
The bias gradient is the sum of what is read for the rows, not rounded. What happens at the end of a run is as in
`conv_kernel_gradient`.
"""

from __future__ import annotations

from functools import cache

from cnn.kernels.cuda.compiler import ALIGNMENT, SIMULATED, Kernel, cuda, device, float32, int32, pointer, uint32
from cnn.kernels.cuda.conv_gradient_plan import Plan
from cnn.kernels.cuda.conv_phase import ConvPhase
from cnn.kernels.cuda.conv_run_sums import ADD_THREADS, add_runs, run_writers
from cnn.kernels.cuda.conv_tensor_rows import HEIGHT, WIDTH, WORDS_OF_ROWS, row_reader
from cnn.kernels.cuda.intrinsics import held, shuffle
from cnn.kernels.cuda.launch import Launch
from cnn.kernels.cuda.rounding import bf16x2, tf32
from cnn.kernels.cuda.side_by_side import alone
from cnn.kernels.cuda.tensor import NUMBERS, WORDS, address, product, put, put4
from cnn.kernels.cuda.tile import unpack, zeros

# Blocks that give each of 132 multiprocessors one, whose registers it takes more than half of; more runs would only add
# atomics, which take longer than the products.
FULL_GRID = 132

STEPS = HEIGHT * WIDTH // WORDS
WARP_ROWS, CHANNELS = 32, 32  # of a warp, of a block

# Taps whose sums, eight for each, a thread keeps in registers.
MOST_TAPS = 9

# Source positions that a rectangle meets, at most: each has a thread of its own.
POSITIONS = 64


def serves(phase: ConvPhase) -> bool:
    """Whether there are rows, channels and taps enough to fill a tile, and the taps lie near enough to each other."""
    wide = phase.targets >= WARP_ROWS and phase.sources >= CHANNELS // 2 and 3 <= _taps(phase) <= MOST_TAPS
    near = phase.vertical.stride == phase.horizontal.stride == 1
    return wide and near and _area(phase)[0] * _area(phase)[1] <= POSITIONS


def plan(phase: ConvPhase, images: int, precision: str, deterministic: bool) -> Plan:
    """Arguments and workspace: as of `conv_kernel_gradient.plan`; the length of a run counts rectangles."""
    rows = WARP_ROWS if SIMULATED or phase.targets <= WARP_ROWS else 2 * WARP_ROWS
    row_tiles = phase.groups * -(-phase.targets // rows)
    tiles = row_tiles * -(-phase.sources // CHANNELS) * (phase.taps // _taps(phase))
    rectangles = -(-images // NUMBERS[precision]) * _rectangles(phase)
    wanted = 2 if SIMULATED else max(FULL_GRID // tiles, 1)
    run = max(-(-rectangles // wanted), 1)
    runs = -(-rectangles // run)
    weights = phase.sources * phase.taps
    threads = rows // WARP_ROWS * CHANNELS // 8 * 32
    add = add_runs(phase.alone, rows, weights) if deterministic else None
    return Plan(
        gradient=Launch(_gradient(phase, precision, rows, deterministic), (runs * tiles,), (threads,)),
        run=run,
        runs=runs,
        workspace=runs * row_tiles * (rows * weights + rows) if deterministic else 0,
        add=Launch(add, (-(-phase.groups * phase.targets * weights // ADD_THREADS),), (ADD_THREADS,)) if add else None,
    )


def _taps(phase: ConvPhase) -> int:
    """Of a block: all, or a row of them."""
    return phase.taps if phase.taps <= MOST_TAPS else phase.horizontal.taps


def _area(phase: ConvPhase) -> tuple[int, int]:
    """Source positions that a rectangle meets, down and right."""
    down = phase.vertical.taps if phase.taps <= MOST_TAPS else 1
    return HEIGHT + (down - 1) * phase.vertical.shift, WIDTH + (phase.horizontal.taps - 1) * phase.horizontal.shift


def _rectangles(phase: ConvPhase) -> int:
    return -(-phase.vertical.size // HEIGHT) * -(-phase.horizontal.size // WIDTH)


@cache
def _gradient(phase: ConvPhase, precision: str, rows: int, deterministic: bool) -> Kernel:
    vertical, horizontal = phase.vertical, phase.horizontal
    IMAGES = NUMBERS[precision]  # of a word
    ROWS, ROW_WARPS = rows, rows // WARP_ROWS
    THREADS = ROW_WARPS * CHANNELS // 8 * 32
    TAPS, OWN_TAPS, TAPS_RIGHT = phase.taps, _taps(phase), horizontal.taps
    TAP_TILES = TAPS // OWN_TAPS
    AREA_DOWN, AREA_RIGHT = _area(phase)
    AREA = AREA_DOWN * AREA_RIGHT
    LINE = AREA + (4 - AREA) % 8  # of a channel: eight channels' words then lie in different banks, four in a row
    STEP, SOURCE = ROWS * WORDS, STEPS * ROWS * WORDS  # rows of a step; where the source begins
    HALF = SOURCE + CHANNELS * LINE
    BUFFER = 2 * HALF
    OWN = CHANNELS * POSITIONS // THREADS  # channels that a thread brings
    EIGHTS = tuple(
        (tap // TAPS_RIGHT * vertical.shift * AREA_RIGHT + tap % TAPS_RIGHT * horizontal.shift)
        for tap in range(OWN_TAPS)
    )
    multiply = product(WARP_ROWS // 16, EIGHTS, precision, (0, 4, AREA_RIGHT, AREA_RIGHT + 4))
    SUMS_OF_ROW = OWN_TAPS * 2
    SUMS = 4 * SUMS_OF_ROW
    RECTANGLES, RIGHT_RECTANGLES = _rectangles(phase), -(-horizontal.size // WIDTH)
    SOURCES, TARGETS, GROUPS = phase.sources, phase.targets, phase.groups
    ROW_TILES, CHANNEL_TILES = -(-TARGETS // ROWS), -(-SOURCES // CHANNELS)
    COLUMN_TILES, ALL_ROW_TILES = CHANNEL_TILES * TAP_TILES, GROUPS * ROW_TILES
    TILES = COLUMN_TILES * ALL_ROW_TILES
    WHOLE_ROWS, WHOLE_CHANNELS = TARGETS % ROWS == 0, SOURCES % CHANNELS == 0
    P, Q = vertical.size, horizontal.size
    fetch_rows, finish = row_reader(phase, precision, WHOLE_ROWS)
    (H, W), TOP, LEFT = phase.source_size, vertical.start % 2**32, horizontal.start % 2**32
    TAPS_APART = vertical.shift  # rows of taps, where a block has one of them
    PLANE = H * W
    POOLED, DERIVED = phase.pooled, phase.derivative is not None
    SHIFT = 1 if POOLED else 0
    TARGET_W = phase.target_size[1]
    G_LINE, G_PLANE = Q >> SHIFT, (P >> SHIFT) * (Q >> SHIFT)
    NEXT_G, NEXT_X = GROUPS * TARGETS * G_PLANE, GROUPS * SOURCES * PLANE  # from image to image
    VALUES, PARTS = WORDS_OF_ROWS * IMAGES, OWN * IMAGES
    WINNERS, OUTPUTS = (VALUES if POOLED else 1), (VALUES if DERIVED else 1)
    BIAS, PAIRED = phase.bias, IMAGES == 2
    write, write_bias = run_writers(phase, ROWS, SOURCES * TAPS, deterministic)

    @device
    def word(values, k):
        if PAIRED:
            return bf16x2(values[2 * k], values[2 * k + 1])
        return tf32(values[k])

    @device
    def fetch_columns(x, at, inside, channel, pair, parts):
        for k in range(OWN):
            for n in range(IMAGES):
                value = float32(0)
                if inside and (n == 0 or pair) and (WHOLE_CHANNELS or channel + uint32(k) < uint32(SOURCES)):
                    value = x[at + uint32(k * PLANE + n * NEXT_X)]
                parts[k * IMAGES + n] = value

    @device
    def conv_tensor_gradient(block, arguments):
        x, grad_output, winners, outputs, grad_weight, grad_bias, images, run = arguments
        shared = cuda.shared.array(BUFFER, float32, alignment=ALIGNMENT)  # two halves, of rows and then sources each
        sums = cuda.local.array(SUMS, float32)
        values = cuda.local.array(VALUES, float32)
        winner = cuda.local.array(WINNERS, int32)
        output = cuda.local.array(OUTPUTS, float32)
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
        rectangle = uint32(block // uint32(TILES) * run)
        there = uint32((images + uint32(IMAGES - 1)) // uint32(IMAGES) * uint32(RECTANGLES))
        end = min(uint32(rectangle + run), there)

        # Of the rows a thread brings four words: of two rows and two columns, in the upper or lower row of a step.
        lower = warp % uint32(2)
        m = uint32(first_row + warp // uint32(2) * uint32(16) + g)
        row_at = (group * uint32(TARGETS) + m) * uint32(G_PLANE)
        row_at = held(uint32(row_at + (lower >> uint32(SHIFT)) * uint32(G_LINE) + (t >> uint32(SHIFT))))
        own_element = held(uint32(lower * uint32(TARGET_W) + t))
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
        more = rectangle < end
        while more or started:
            full = uint32(uint32(4 * HALF) - free)
            n = uint32(rectangle // uint32(RECTANGLES) * uint32(IMAGES))
            top = uint32(rectangle % uint32(RECTANGLES) // uint32(RIGHT_RECTANGLES) * uint32(HEIGHT))
            left = uint32(rectangle % uint32(RIGHT_RECTANGLES) * uint32(WIDTH))
            pair = PAIRED and n + uint32(1) < images
            h, w = uint32(own_h + top), uint32(own_w + left)
            inside = more and h < uint32(H) and w < uint32(W)
            if more:
                at = row_at + n * uint32(NEXT_G) + (top >> uint32(SHIFT)) * uint32(G_LINE) + (left >> uint32(SHIFT))
                i, j = uint32(top + lower), uint32(left + t)
                fetch_rows(grad_output, winners, outputs, held(uint32(at)), i, j, m, pair, values, winner, output)
                at = column_at + n * uint32(NEXT_X) + top * uint32(W) + left
                fetch_columns(x, held(uint32(at)), inside, own_channel, pair, parts)
            if started:
                rows_at, columns_at = uint32(read_rows + full), uint32(read_columns + full)
                tile = multiply(tile, shared, rows_at, columns_at)
                rows_at, columns_at = uint32(rows_at + uint32(4 * STEP)), uint32(columns_at + uint32(8 * AREA_RIGHT))
                tile = multiply(tile, shared, rows_at, columns_at)
            if more:
                finish(values, winner, output, int32(own_element + top * uint32(TARGET_W) + left))
                if BIAS and column_tile == uint32(0):
                    for k in range(0, VALUES, 2 * IMAGES):
                        for number in range(IMAGES):
                            upper_sum += values[k + number]
                            lower_sum += values[k + IMAGES + number]
                to = uint32(put_rows + free)
                put4(shared, to, word(values, 0), word(values, 1), word(values, 2), word(values, 3))
                to = uint32(to + uint32(4 * STEP))
                put4(shared, to, word(values, 4), word(values, 5), word(values, 6), word(values, 7))
                if AREA == POSITIONS or position < uint32(AREA):
                    to = uint32(put_columns + free)
                    for k in range(OWN):
                        put(shared, to, uint32(k * LINE), word(parts, k))
            cuda.syncthreads()
            free = full
            started = more
            if more:
                rectangle = uint32(rectangle + uint32(1))
            more = rectangle < end

        unpack(tile, sums)
        row_and_run = uint32(block // uint32(COLUMN_TILES))
        channel = uint32(first_channel + own_eight + t * uint32(2))
        for r in range(4):
            row = uint32(warp % uint32(ROW_WARPS) * uint32(WARP_ROWS) + uint32(r * 8) + g)
            for c in range(2):
                if WHOLE_CHANNELS or channel + uint32(c) < uint32(SOURCES):
                    for tap in range(OWN_TAPS):
                        e = uint32((tap_tile * uint32(OWN_TAPS) + uint32(tap)) * uint32(SOURCES) + channel + uint32(c))
                        value = sums[r * SUMS_OF_ROW + tap * 2 + c]
                        write(grad_weight, row_and_run, group, first_row, row, uint32(0), e, value)
        if BIAS and column_tile == uint32(0):
            # The halves have been read to the end.
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
        (real, real, pointer(int32) if phase.pooled else real, real, real, real, uint32, uint32),
        THREADS,
        {"rows": ROWS, "channels": CHANNELS, "taps": OWN_TAPS},
    )

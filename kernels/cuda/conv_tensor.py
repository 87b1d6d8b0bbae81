"""The convolution of forward pass and input gradient on tensor cores, in tf32 or bf16 with float32 sums.

The sum stands in `conv_phase`, an implicit matrix product as in `conv_product`: rows are the target's channels of one
group, columns its pixels, and the reduction runs over chunks of channels outside and taps inside.

A block owns rows x columns of the product; its columns are a rectangle of pixels of one image, or of a few small ones.
The source that all taps of a chunk meet, the rectangle with a margin, is in shared memory at once, rounded: a line of
16 words for each pixel of it, so that a tap is an offset in lines. Each source is thus loaded and rounded once, not
once for each tap. A step multiplies one tap; meanwhile every thread brings its part of the next chunk, some of it with
each tap and some with each row of taps, to the other half of the buffer. Weights come packed and rounded
(`conv_tensor_pack`), copied a few steps ahead.

Sources are read as they are: a pass of its own unpools gradients and takes derivatives before (see `conv_block`), which
costs less than doing it here. By the emulator's estimates for cifar-cnn's last convolution, 128 images, in tf32, both
gradients took 40 us after a pass of 6, and 56 us without.

A warp owns 32 x 64: of the rows two sixteens; of the columns four times 2 rows of 8 pixels, each row an eight (see
`tensor`). A lane then holds squares of 2 x 2 pixels, which it activates, pools and writes as the direct kernel does.
"""

from __future__ import annotations

from functools import cache

from cnn.kernels.cuda.compiler import Kernel, cuda, device, float32, int32, pointer, uint32
from cnn.kernels.cuda.conv_phase import ConvPhase
from cnn.kernels.cuda.conv_result import square_writer
from cnn.kernels.cuda.conv_tensor_source import source_reader
from cnn.kernels.cuda.conv_tensor_tile import STAGES, WARP_COLUMNS, WARP_ROWS, Tile, blocks, chunks, lines, reach, words
from cnn.kernels.cuda.intrinsics import held
from cnn.kernels.cuda.launch import Launch
from cnn.kernels.cuda.side_by_side import alone
from cnn.kernels.cuda.tensor import NUMBERS, SIDE_BY_SIDE, WORDS, address, arrived, copies, product, sent
from cnn.kernels.cuda.tile import unpack, zeros

PENDING = STAGES - 2  # groups of copies that may be under way when a step begins


def plan(phase: ConvPhase, images: int, precision: str, tile: Tile) -> Launch:
    """Arguments: as of `conv_product.plan`, weights packed by `conv_tensor_pack`."""
    return Launch(_product(phase, precision, tile), (blocks(phase, images, tile),), (tile.threads,))


@cache
def _product(phase: ConvPhase, precision: str, tile: Tile) -> Kernel:
    vertical, horizontal = phase.vertical, phase.horizontal
    ROWS, IMAGES, HEIGHT, WIDTH, THREADS = tile.rows, tile.images, tile.height, tile.width, tile.threads
    ROW_WARPS = ROWS // WARP_ROWS
    DEPTH, CHUNKS = WORDS * NUMBERS[precision], chunks(phase, precision)
    TAPS, TAPS_DOWN, TAPS_RIGHT = phase.taps, vertical.taps, horizontal.taps
    STEPS = CHUNKS * TAPS
    HALVES, MORE = min(CHUNKS, 2), CHUNKS > 2  # that are filled from the start; whether they are filled again
    # Lines of shared memory: of a row of the rectangle with its margin, of an image, and of all.
    LINE_WIDTH = reach(horizontal, WIDTH)
    IMAGE_LINES, LINES = reach(vertical, HEIGHT) * LINE_WIDTH, lines(phase, tile)
    QUADS = LINES * 4  # a thread loads four words at a time
    ALL_PIECES = -(-QUADS // THREADS)  # of a chunk: such quads of a thread
    PIECES = ALL_PIECES // TAPS  # brought with each tap,
    ROW_PIECES = -(-(ALL_PIECES - PIECES * TAPS) // TAPS_DOWN)  # and with each row of taps
    STAGE, ALL_STAGES, HALF = ROWS * WORDS, STAGES * ROWS * WORDS, LINES * WORDS
    BUFFER = words(phase, tile, precision)
    copy = copies(STAGE // 4 // THREADS, 4 * THREADS)
    # Where the taps begin, in words, and how they go on, in bytes.
    FIRST_TAP = max(-(vertical.taps - 1) * vertical.shift, 0) * LINE_WIDTH
    FIRST_TAP = (FIRST_TAP + max(-(horizontal.taps - 1) * horizontal.shift, 0)) * WORDS
    RIGHT = horizontal.shift * 4 * WORDS % 2**32
    DOWN = (vertical.shift * LINE_WIDTH - TAPS_RIGHT * horizontal.shift) * 4 * WORDS % 2**32
    RIGHT_TILES = -(-horizontal.size // WIDTH)
    PLANE_TILES = -(-vertical.size // HEIGHT) * RIGHT_TILES
    WHOLE_ROWS, TARGETS, GROUPS = phase.targets % ROWS == 0, phase.targets, phase.groups
    ROW_TILES = -(-phase.targets // ROWS)
    ALL_ROW_TILES = GROUPS * ROW_TILES
    BIAS = phase.bias
    # Squares of a warp, in blocks of 2 x 8 pixels: where each lies from the first.
    ACROSS, ALONG = WIDTH // 8, HEIGHT // 2 * (WIDTH // 8)  # blocks in a row of them, in an image

    def line_of(number):
        image, down, right = number // ALONG, number % ALONG // ACROSS, number % ACROSS
        return image * IMAGE_LINES + down * 2 * LINE_WIDTH + right * 8

    BLOCKS = WARP_COLUMNS // 16
    EIGHTS = tuple((line_of(k) + b * LINE_WIDTH) * WORDS for k in range(BLOCKS) for b in range(2))
    multiply = product(WARP_ROWS // 16, EIGHTS, precision, SIDE_BY_SIDE)
    TILE_ROWS, TILE_COLUMNS = WARP_ROWS // 8, BLOCKS * 4
    SUMS = TILE_ROWS * TILE_COLUMNS
    SQUARE_ROWS, SQUARE_COLUMNS = -(-vertical.size // 2), -(-horizontal.size // 2)
    write, reader = square_writer(phase), source_reader(phase, precision, tile)
    place, (fetch_one, put_one) = reader.place, reader.pieces(0, 1)
    (fetch, put), (fetch_row, put_row) = reader.pieces(0, PIECES), reader.pieces(PIECES, ROW_PIECES)
    OWN_CHANNELS, VALUES = reader.values, max(PIECES + ROW_PIECES, 1) * reader.values

    @device
    def conv_tensor(block, arguments, shared):
        source, _winners, _outputs, weights, bias, inputs, target, places, images = arguments
        # shared: stages of weights, then halves of sources
        table = cuda.shared.array(LINES, uint32)  # where each line's first channel is in the source
        sums = cuda.local.array(SUMS, float32)
        values = cuda.local.array(VALUES, float32)

        thread = uint32(cuda.threadIdx.x)
        rows_of_tile = uint32(block % uint32(ALL_ROW_TILES))
        group = rows_of_tile // uint32(ROW_TILES)
        row_tile = rows_of_tile % uint32(ROW_TILES)
        rectangle = uint32(block // uint32(ALL_ROW_TILES))
        image = uint32(rectangle // uint32(PLANE_TILES) * uint32(IMAGES))
        top = uint32(rectangle % uint32(PLANE_TILES) // uint32(RIGHT_TILES) * uint32(HEIGHT))
        left = uint32(rectangle % uint32(RIGHT_TILES) * uint32(WIDTH))
        warp, lane = thread // uint32(32), thread % uint32(32)
        g, t = lane // uint32(4), lane % uint32(4)

        # Of the first stage: where this thread copies to.
        own_weight = held(address(shared, uint32(thread * uint32(4))))
        weight_at = uint32(rows_of_tile * uint32(STEPS * STAGE) + thread * uint32(4))
        for stage in range(STAGES - 1):
            if stage < STEPS:
                copy(shared, uint32(own_weight + uint32(stage * 4 * STAGE)), weights, weight_at)
            sent()
            weight_at = uint32(weight_at + uint32(STAGE))

        line = thread
        while line < uint32(LINES):
            table[line] = place(image, group, line, top, left, images)
            line = uint32(line + uint32(THREADS))
        cuda.syncthreads()

        own_channel = uint32(thread % uint32(4) * uint32(OWN_CHANNELS))
        own_source = held(address(shared, uint32(thread * uint32(4) + uint32(ALL_STAGES))))
        for h in range(HALVES):
            quad = thread
            while quad < uint32(QUADS):
                fetch_one(source, table, quad, own_channel, values)
                at = uint32(own_source + uint32(h * 4 * HALF) + (quad - thread) * uint32(16))
                put_one(shared, at, quad, values)
                quad = uint32(quad + uint32(THREADS))
            own_channel = uint32(own_channel + uint32(DEPTH))

        # The lane's first words: of its row in a stage, and of its column in a half.
        row = uint32(warp % uint32(ROW_WARPS) * uint32(WARP_ROWS))
        row_at = held(address(shared, uint32(row * uint32(WORDS) + lane * uint32(4))))
        first = uint32(warp // uint32(ROW_WARPS) * uint32(BLOCKS))  # block of 2 x 8 pixels
        image_first = first // uint32(ALONG)
        down, right = uint32(first % uint32(ALONG) // uint32(ACROSS)), uint32(first % uint32(ACROSS))
        column_at = uint32(image_first * uint32(IMAGE_LINES) + down * uint32(2 * LINE_WIDTH) + right * uint32(8) + g)
        column_at = uint32(column_at * uint32(WORDS) + t * uint32(4) + uint32(ALL_STAGES + FIRST_TAP))
        column_at = held(address(shared, column_at))

        tile = zeros(TILE_ROWS, TILE_COLUMNS)
        # In bytes from here on.
        stage = uint32(0)
        free = uint32(4 * (STAGES - 1) * STAGE)  # the stage that the next copies go to
        weight_end = held(uint32((rows_of_tile + uint32(1)) * uint32(STEPS * STAGE)))
        chunk = uint32(0)
        half = uint32(0)
        while chunk < uint32(CHUNKS):
            at = uint32(column_at + half)
            half = uint32(uint32(4 * HALF) - half)
            # The chunk after this goes to the half that was read before, where it is not there from the start.
            quad = thread if chunk > uint32(0) and chunk < uint32(CHUNKS - 1) else uint32(QUADS)
            put_at = uint32(own_source + half)
            tap_down = uint32(0)
            while tap_down < uint32(TAPS_DOWN):
                row_quad, row_put_at = quad, put_at
                if MORE:
                    fetch_row(source, table, row_quad, own_channel, values)
                    quad = uint32(quad + uint32(ROW_PIECES * THREADS))
                    put_at = uint32(put_at + uint32(ROW_PIECES * THREADS * 16))
                tap_right = uint32(0)
                while tap_right < uint32(TAPS_RIGHT):
                    arrived(PENDING)
                    cuda.syncthreads()
                    if weight_at < weight_end:
                        copy(shared, uint32(own_weight + free), weights, weight_at)
                    sent()
                    weight_at = uint32(weight_at + uint32(STAGE))
                    if MORE:
                        fetch(source, table, quad, own_channel, values)
                    tile = multiply(tile, shared, uint32(row_at + stage), at)
                    if MORE:
                        put(shared, put_at, quad, values)
                        quad = uint32(quad + uint32(PIECES * THREADS))
                        put_at = uint32(put_at + uint32(PIECES * THREADS * 16))
                    at = uint32(at + uint32(RIGHT))
                    free = stage
                    stage = uint32(uint32(stage + uint32(4 * STAGE)) % uint32(4 * ALL_STAGES))
                    tap_right = uint32(tap_right + uint32(1))
                if MORE:
                    put_row(shared, row_put_at, row_quad, values)
                at = uint32(at + uint32(DOWN))
                tap_down = uint32(tap_down + uint32(1))
            if chunk > uint32(0):
                own_channel = uint32(own_channel + uint32(DEPTH))
            chunk = uint32(chunk + uint32(1))

        unpack(tile, sums)
        for k in range(BLOCKS):
            number_of = uint32(first + uint32(k))
            n = uint32(image + number_of // uint32(ALONG))
            down = uint32(top // uint32(2) + number_of % uint32(ALONG) // uint32(ACROSS))
            right = uint32(left // uint32(2) + number_of % uint32(ACROSS) * uint32(4) + t)
            if n < images and down < uint32(SQUARE_ROWS) and right < uint32(SQUARE_COLUMNS):
                for r in range(TILE_ROWS):
                    m = uint32(row_tile * uint32(ROWS) + row + g + uint32(r * 8))
                    if WHOLE_ROWS or m < uint32(TARGETS):
                        channel = uint32(group * uint32(TARGETS) + m)
                        shift = float32(0)
                        if BIAS:
                            shift = bias[channel]
                        plane = uint32(n * uint32(GROUPS * TARGETS) + channel)
                        write(target, places, inputs, sums, r * TILE_COLUMNS + k * 4, shift, plane, down, right)

    real = pointer(float32)
    return alone(
        f"conv_{precision}",
        conv_tensor,
        (*(real,) * 7, pointer(int32) if phase.pooled else real, uint32),
        THREADS,
        {"rows": ROWS, "images": IMAGES, "height": HEIGHT, "width": WIDTH},
        words=BUFFER,
    )
